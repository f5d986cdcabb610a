"""JSON documents: what ``--json`` prints.  Field names are promises; times are ISO 8601 in UTC."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from boundary.operations.doctor import Finding, Verdict
from boundary.queries.parked import MessageDetail, ParkedGroup, ParkedSummary
from boundary.queries.saga_detail import SagaDetail
from boundary.queries.saga_list import SagaSummary
from internals.store.trace import Node, Trace
from saga.state import Phase


def summary_document(saga: SagaSummary) -> dict[str, Any]:
    """Return one saga of a list."""
    document = _plain(asdict(saga))
    del document["at"]
    return {**document, "seconds": round(saga.age.total_seconds(), 6)}


def detail_document(detail: SagaDetail) -> dict[str, Any]:
    """Return one saga with its data, steps and what it waits for."""
    return {
        **summary_document(detail.saga),
        "waits_for": detail.waits_for,
        "running": [_plain(asdict(each)) for each in detail.running],
        "steps": [_plain(asdict(step)) for step in detail.steps],
        "deliveries": [_plain(asdict(delivery)) for delivery in detail.deliveries],
        "standing": [_plain(asdict(effect)) for effect in detail.standing],
        "audit": [_plain(asdict(entry)) for entry in detail.audit],
        "held_by": [_plain(asdict(holder)) for holder in detail.holders],
        "data": detail.data,
    }


def parked_document(delivery: ParkedSummary) -> dict[str, Any]:
    """Return one parked delivery of a list."""
    document = _plain(asdict(delivery))
    del document["at"]
    return dict(document)


def group_document(group: ParkedGroup) -> dict[str, Any]:
    """Return the parked deliveries of one cause."""
    document = _plain(asdict(group))
    del document["at"]
    return dict(document)


def message_document(detail: MessageDetail, *, payload: bool) -> dict[str, Any]:
    """Return one message with its deliveries; what it says only if `payload` is true."""
    document = _plain(asdict(detail))
    del document["at"]
    if not payload:
        del document["payload"]
    if detail.origin is None:
        del document["origin"]
    return dict(document)


def trace_json(trace: Trace, saga: SagaDetail | None = None) -> str:
    """Return a trace as JSON text: messages in a tree, by ``children``.

    Written by hand as it goes, since a chain may be deeper than a recursive encoder can follow.
    """
    head = {
        "saga": summary_document(saga.saga) if saga else None,
        "truncated": trace.truncated,
    }
    parts = [json.dumps(head)[:-1], ', "messages": [']
    depth_open = -1
    for depth, node in trace.walk():
        if depth <= depth_open:
            parts.append("]}" * (depth_open - depth + 1) + ", ")
        parts.append(json.dumps(_node(node, saga))[:-1] + ', "children": [')
        depth_open = depth
    parts.append("]}" * (depth_open + 1) + "]}")
    return "".join(parts)


def doctor_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what doctor found, and whether all is well."""
    return {
        "healthy": all(finding.verdict is not Verdict.WRONG for finding in findings),
        "checks": [_plain(asdict(finding)) for finding in findings],
    }


def _node(node: Node, saga: SagaDetail | None) -> dict[str, Any]:
    step, phase = saga.commands.get(node.id, (None, None)) if saga else (None, None)
    return {
        "id": str(node.id),
        "kind": node.kind,
        "undoes": node.undoes,
        "category": node.category.value,
        "sender": node.sender,
        "sent_at": _plain(node.sent_at),
        "repeats": node.repeats,
        "depth": node.depth,
        "origin": node.origin,
        "saga_id": _plain(node.saga_id),
        "causation_id": _plain(node.causation_id),
        "root_id": str(node.root_id),
        "step": step,
        "compensation": phase is Phase.COMPENSATING,
        "deliveries": [_plain(asdict(delivery)) for delivery in node.deliveries],
    }


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, UUID) else value
