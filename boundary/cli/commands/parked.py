"""Parked: list, groups, show, retry and drop, for deliveries that failed for good."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated
from uuid import UUID

import typer

from boundary.cli.bulk import Canaries, Deed, carry_out, confirm, unique
from boundary.cli.errors import Complaint
from boundary.cli.options import Actor, DryRun, Json, Reason, Yes, read_actor, read_age, read_reason
from boundary.cli.output import show as print_text
from boundary.cli.output import show_json
from boundary.cli.session import Desk
from boundary.operations import (
    ParkedFilter,
    ParkedSummary,
    count_parked,
    drop_parked,
    group_parked,
    list_parked,
    retry_parked,
    show_message,
)
from boundary.operations.bulk import Done, Target, look_at_deliveries
from boundary.queries.reference import as_uuid
from boundary.rendering import (
    group_document,
    message_document,
    parked_document,
    render_groups,
    render_message,
    render_parked,
)
from boundary.rendering.words import one_line

parked = typer.Typer(
    name="parked",
    help="Inspect, retry or drop deliveries that failed for good.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

_Consumer = Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this consumer.")]
_Kind = Annotated[str | None, typer.Option(metavar="KIND", help="Only messages of this kind.")]
_SagaName = Annotated[
    str | None, typer.Option("--saga", metavar="NAME", help="Only those of sagas of this name.")
]
_Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only those parked in the last 30s, 2h, 7d.")
]
_Group = Annotated[
    str | None,
    typer.Option("--group", metavar="ID", help="Only those of this cause; see `parked groups`."),
]
_MessageIds = Annotated[
    list[str] | None, typer.Argument(metavar="MESSAGE_ID", help="Messages, by id.")
]


@parked.command("list")
def list_(
    context: typer.Context,
    consumer: _Consumer = None,
    kind: _Kind = None,
    saga: _SagaName = None,
    since: _Since = None,
    group: _Group = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List parked deliveries, the one parked last first."""
    desk: Desk = context.obj
    which = ParkedFilter(consumer, kind, saga, read_age(since), group)
    with desk.reading() as unit:
        found = list_parked(unit, desk.schema, which, limit=limit)
        count = count_parked(unit, desk.schema, which)
    if json:
        show_json([parked_document(delivery) for delivery in found])
    else:
        print_text(render_parked(found, count))


@parked.command("groups")
def groups(
    context: typer.Context,
    consumer: _Consumer = None,
    kind: _Kind = None,
    saga: _SagaName = None,
    since: _Since = None,
    json: Json = False,
) -> None:
    """Group parked deliveries by cause, the most frequent one first."""
    desk: Desk = context.obj
    which = ParkedFilter(consumer, kind, saga, read_age(since))
    with desk.reading() as unit:
        found = group_parked(unit, desk.schema, which)
    if json:
        show_json([group_document(group) for group in found])
    else:
        print_text(render_groups(found))


@parked.command("show")
def show(
    context: typer.Context,
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The message's id.")],
    payload: Annotated[
        bool, typer.Option("--payload", help="Show what the message says too.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a message, its deliveries and why they failed."""
    desk: Desk = context.obj
    id = _message_id(message_id)
    with desk.reading() as unit:
        detail = show_message(unit, desk.schema, id, payload=payload)
    if detail is None:
        raise Complaint(f"no message has the id {id}; `saga parked list` shows those parked")
    if json:
        show_json(message_document(detail, payload=payload))
    else:
        print_text(render_message(detail, payload=payload))


@parked.command("retry")
def retry(
    context: typer.Context,
    reason: Reason,
    message_ids: _MessageIds = None,
    consumer: _Consumer = None,
    kind: _Kind = None,
    saga: _SagaName = None,
    since: _Since = None,
    group: _Group = None,
    canary: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="This many first, and the rest only if none is parked again."
        ),
    ] = 0,
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for the canaries."),
    ] = 60.0,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Deliver parked messages again, as they are.

    Each has all its attempts again.  Name the messages, or say which ones fit.
    """
    deed = Deed(
        "parked retry", "retry", "retried", read_actor(actor), read_reason(reason), dry_run, json
    )
    which = ParkedFilter(consumer, kind, saga, read_age(since), group)
    canaries = Canaries(canary, wait, look_at_deliveries)
    _do(context.obj, deed, retry_parked, message_ids, which, yes=yes, canaries=canaries)


@parked.command("drop")
def drop(
    context: typer.Context,
    reason: Reason,
    message_ids: _MessageIds = None,
    consumer: _Consumer = None,
    kind: _Kind = None,
    saga: _SagaName = None,
    since: _Since = None,
    group: _Group = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Give up parked messages; their rows are kept, with the reason.

    A saga that is stuck on one stays stuck.  Name the messages, or say which ones fit.
    """
    deed = Deed(
        "parked drop", "drop", "dropped", read_actor(actor), read_reason(reason), dry_run, json
    )
    which = ParkedFilter(consumer, kind, saga, read_age(since), group)
    _do(context.obj, deed, drop_parked, message_ids, which, yes=yes)


_NONE = Canaries()


def _do(
    desk: Desk,
    deed: Deed,
    act: Callable[..., frozenset[str] | None],
    message_ids: list[str] | None,
    which: ParkedFilter,
    *,
    yes: bool,
    canaries: Canaries = _NONE,
) -> None:
    desk.prepare_to_act(deed.name)
    if message_ids and which.given:
        raise Complaint("name messages, or say which ones fit; not both")
    if message_ids:
        targets = unique(Target(id, str(id)) for id in map(_message_id, message_ids))
    elif which.given:
        with desk.reading() as unit:
            fitting = list_parked(unit, desk.schema, which)
        # The one that has waited longest comes first.
        targets = _deliveries(fitting[::-1])
        confirm(deed, targets, _what(targets), yes=yes)
    else:
        raise Complaint(
            f"say which messages to {deed.verb}: ids, or --group, --consumer, --kind, --saga or "
            "--since"
        )

    def do(message: Target) -> Done:
        again = act(
            desk.runtime,
            message.id,
            actor=deed.actor,
            reason=deed.reason,
            consumer=message.consumer,
            dry_run=deed.dry_run,
        )
        return Done(message, consumers=again or frozenset())

    carry_out(desk, deed, targets, do, nothing="no parked message fits", canaries=canaries)


def _deliveries(fitting: Sequence[ParkedSummary]) -> list[Target]:
    """Those that fit, each at its own consumer: others of the same message are not meant."""
    several = _any_twice(d.message_id for d in fitting)
    return [
        Target(
            d.message_id,
            f"{one_line(d.kind)} {d.message_id}"
            + (f" at {one_line(d.consumer)}" if several else ""),
            d.consumer,
        )
        for d in fitting
    ]


def _what(targets: Sequence[Target]) -> str:
    if _any_twice(target.id for target in targets):
        return "parked deliveries"
    return "parked message" + "s" * (len(targets) != 1)


def _any_twice(ids: Iterable[UUID]) -> bool:
    listed = list(ids)
    return len(set(listed)) < len(listed)


def _message_id(text: str) -> UUID:
    id = as_uuid(text)
    if id is None:
        raise Complaint(f"{text!r} is no message's id; `saga parked list` shows those parked")
    return id
