"""Signalling: `saga signal`, the outside message that a saga waits for, sent by hand."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from boundary.cli.errors import Complaint
from boundary.cli.options import (
    Actor,
    DryRun,
    Json,
    Reason,
    Reference,
    read_actor,
    read_reason,
    read_source,
)
from boundary.cli.output import show, show_json
from boundary.cli.session import Desk
from boundary.operations import show_saga, signal_saga
from boundary.queries.reference import as_uuid
from boundary.rendering import render_signal, signal_document
from boundary.rendering.words import one_line
from boundary.runtime.composition import wiring_of
from saga.definition import Saga
from saga.errors import UnknownSaga
from saga.messages import Event
from saga.steps import Wait


def signal(
    context: typer.Context,
    reference: Reference,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="The message's kind, such as desk.approved.")
    ],
    data: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="What it says; - reads standard input.")
    ],
    reason: Reason,
    id: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="Its id: the same id sent twice is one message."),
    ] = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Send a saga the outside message that it waits for.

    One that comes before the saga waits for it is kept.
    """
    desk: Desk = context.obj
    desk.prepare_to_act("signal")
    who, why = read_actor(actor), read_reason(reason)
    message_id = None if id is None else as_uuid(id)
    if id is not None and message_id is None:
        raise Complaint(f"--id {id!r} is no UUID")
    with desk.reading() as unit:
        found = show_saga(unit, desk.schema, reference).saga
    event = _event(_known(desk, found.name, found.version, reference), kind, data)
    with desk.database_errors():
        signalled = signal_saga(
            desk.runtime,
            found.id,
            event,
            actor=who,
            reason=why,
            id=message_id,
            dry_run=dry_run,
        )
    if json:
        show_json(
            signal_document(found, event.kind, signalled, actor=who, reason=why, dry_run=dry_run)
        )
    else:
        show(render_signal(found, event.kind, signalled, dry_run=dry_run))


def _known(desk: Desk, name: str, version: int, reference: str) -> Saga[Any]:
    saga = wiring_of(desk.runtime).sagas.get(name, {}).get(version)
    if saga is None:
        raise UnknownSaga(
            f"{one_line(reference)} is a {name} of version {version}, which {desk.app} does not "
            "define; run it with the application that does (--app)"
        )
    return saga


def _event(saga: Saga[Any], kind: str, data: str) -> Event:
    takes: Mapping[str, type[Event]] = {
        event.kind: event
        for step in saga
        if isinstance(step, Wait)
        for event in (step.until, *step.rejections)
    }
    if kind not in takes:
        known = f"it takes {', '.join(sorted(takes))}" if takes else "it has no Wait at all"
        raise Complaint(f"saga {saga.name} waits for no {kind!r}; {known}")
    return takes[kind].made_from_json(read_source(data))
