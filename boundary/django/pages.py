"""Pages: what the admin shows of one saga and of one message, read as the command line reads it."""

import json
from typing import Any
from uuid import UUID

from boundary.django.html import pill, timeline, trace_html
from boundary.django.project import runtime
from boundary.operations import show_known_saga, show_message
from boundary.queries.time_format import clock, duration
from boundary.rendering import render_trace
from boundary.runtime.composition import wiring_of
from internals.store.delivery import DeliveryState
from internals.store.trace import trace
from saga.errors import UnknownSaga
from saga.state import IN_FLIGHT, Status

#: Messages of a trace, and bars of a timeline, that one page shows.
_SHOWN = 500
_BARS = 120

HIDDEN = "hidden: it takes the permission saga.see_payload"


def saga_page(id: UUID, *, payload: bool) -> dict[str, Any] | None:
    """Return what the page of a saga shows; None if there is no such saga.

    Args:
        id: The saga.
        payload: Whether the values of its data are shown, and not its fields' names alone.
    """
    made = runtime()
    schema = made.settings.db_schema
    with made.django.reading() as unit:
        try:
            detail = show_known_saga(unit, schema, id, wiring_of(made).sagas)
        except UnknownSaga:
            return None
        found = trace(unit, schema, id, _SHOWN)
    saga = detail.saga
    return {
        "detail": detail,
        "pill": pill(saga.status.value),
        "age": duration(saga.age),
        "audit": [(clock(entry.at, saga.at), entry) for entry in detail.audit],
        "failed_steps": [
            step.name
            for step in detail.steps
            if saga.status is Status.STUCK and step.phase in IN_FLIGHT
        ],
        "timeline": timeline(found, _BARS),
        "trace": trace_html(render_trace(found, detail)),
        "data": _shown(detail.data, payload),
    }


def message_page(id: UUID, *, payload: bool) -> dict[str, Any] | None:
    """Return what the page of a message shows; None if there is no such message."""
    made = runtime()
    with made.django.reading() as unit:
        detail = show_message(unit, made.settings.db_schema, id, payload=payload)
    if detail is None:
        return None
    return {
        "detail": detail,
        "parked": [d for d in detail.deliveries if d.state is DeliveryState.PARKED],
        "audit": [(clock(entry.at, detail.at), entry) for entry in detail.audit],
        "data": _shown(detail.payload, payload),
    }


def _shown(value: Any, payload: bool) -> str:
    if payload:
        return json.dumps(value, ensure_ascii=False, indent=2)
    fields = f"\n{', '.join(sorted(value))}" if isinstance(value, dict) else ""
    return f"{HIDDEN}{fields}"
