"""Inspect: list, show, trace and export, which change nothing."""

from typing import Annotated

import typer

from boundary.cli.commands import follow as following
from boundary.cli.errors import Complaint
from boundary.cli.options import Json, Reference, read_age
from boundary.cli.output import show as print_text
from boundary.cli.output import show_json
from boundary.cli.session import Desk
from boundary.operations import (
    SagaDetail,
    count_sagas,
    find_saga,
    list_sagas,
    show_known_saga,
    show_saga,
)
from boundary.operations.export import export as export_lines
from boundary.queries.reference import as_uuid
from boundary.rendering import (
    detail_document,
    render_saga,
    render_sagas,
    render_trace,
    summary_document,
    trace_json,
)
from boundary.rendering.mermaid import mermaid as mermaid_text
from boundary.runtime.composition import wiring_of
from internals.store.trace import Trace, trace_message
from internals.store.trace import trace as trace_saga
from saga.errors import UnknownSaga
from saga.state import Status


def list_(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only sagas of this name.")
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only those in this status.")] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="The same as --status stuck.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only those started in the last 30s, 2h, 7d.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only keys that begin with this.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List sagas, the newest first."""
    desk: Desk = context.obj
    age = read_age(since)
    if stuck and status not in (None, Status.STUCK):
        raise Complaint(f"--stuck and --status {status} contradict each other")
    status = Status.STUCK if stuck else status
    with desk.reading() as unit:
        sagas = list_sagas(
            unit,
            desk.schema,
            name=name,
            status=status,
            since=age,
            key_prefix=key,
            limit=limit,
        )
        counts = {} if json else count_sagas(unit, desk.schema, name=name)
    if json:
        show_json([summary_document(saga) for saga in sagas])
    else:
        print_text(render_sagas(sagas, counts))


def show(context: typer.Context, reference: Reference, json: Json = False) -> None:
    """Show one saga, and what it waits for."""
    desk: Desk = context.obj
    with desk.reading() as unit:
        detail = show_known_saga(unit, desk.schema, reference, wiring_of(desk.runtime).sagas)
    if json:
        show_json(detail_document(detail))
    else:
        print_text(render_saga(detail, program=desk.acting_program))


def trace(
    context: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="ID|NAME:KEY", help="The saga's id or business key, or a message's id."
        ),
    ],
    times: Annotated[
        bool, typer.Option("--times", help="What each waited for, and how long.")
    ] = False,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid sequence diagram.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print what happens until all is over.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw who caused what in a saga.

    For a message, draws the tree that it is part of: its root, and all that the root set off.
    """
    desk: Desk = context.obj
    if mermaid and (json or follow or times):
        raise Complaint("--mermaid is a form of its own: leave --json, --times and --follow out")
    if follow and times:
        raise Complaint("--follow prints what happens as it happens: leave out --times")
    if follow:
        following.follow(lambda: _followed(desk, reference), json=json)
        return
    found, saga = _traced(desk, reference)
    if json:
        typer.echo(trace_json(found, saga))
    elif mermaid:
        typer.echo(mermaid_text(found), nl=False)
    else:
        print_text(render_trace(found, saga, times=times))


def _followed(desk: Desk, reference: str) -> tuple[Trace, bool]:
    found, saga = _traced(desk, reference)
    return found, saga is None or saga.saga.status.final


def _traced(desk: Desk, reference: str) -> tuple[Trace, SagaDetail | None]:
    """Return a trace and the saga that it belongs to, if any.

    Raises `UnknownSaga` if nothing has that name.
    """
    saga: SagaDetail | None = None
    with desk.reading() as unit:
        try:
            id = find_saga(unit, desk.schema, reference)
        except UnknownSaga:
            message = as_uuid(reference)
            found = trace_message(unit, desk.schema, message) if message else Trace(())
            if not found.roots and message is None:
                raise
        else:
            found = trace_saga(unit, desk.schema, id)
            saga = show_saga(unit, desk.schema, id)
        if saga is None and found.roots and found.roots[0].saga_id is not None:
            saga = show_saga(unit, desk.schema, found.roots[0].saga_id)
    if saga is None and not found.roots:
        raise UnknownSaga(f"no saga and no message has the id {reference}")
    return found, saga


def export(
    context: typer.Context,
    jsonl: Annotated[  # noqa: ARG001 - the only format so far, and said so that others may follow
        bool, typer.Option("--jsonl", help="As JSON lines, the format of docs/export.md.")
    ] = True,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only what is at most 30s, 2h, 7d old.")
    ] = None,
    saga: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only sagas of this name and their messages.")
    ] = None,
) -> None:
    """Print sagas, messages and deliveries, one JSON object a line."""
    desk: Desk = context.obj
    age = read_age(since)
    with desk.exporting() as connection:
        for line in export_lines(connection, desk.schema, since=age, saga=saga):
            typer.echo(line)
