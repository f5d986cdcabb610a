"""Sagas: replay, skip and cancel, each with its reason and its actor in the audit."""

import json as json_text
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from boundary.cli.bulk import Canaries, Deed, carry_out, confirm, unique
from boundary.cli.commands.run import definition_of
from boundary.cli.errors import Complaint
from boundary.cli.options import (
    Actor,
    DryRun,
    Json,
    Reason,
    Reference,
    References,
    Yes,
    read_actor,
    read_age,
    read_reason,
    read_source,
)
from boundary.cli.session import Desk
from boundary.operations import act_on_saga, choose_sagas, find_saga
from boundary.operations.bulk import Act, Done, Target
from boundary.rendering.words import one_line
from saga.messages import Cancelled, Message, Replayed, Skipped
from saga.state import Status

#: From more sagas than this on, a replay sends one ahead unless told otherwise.
_MANY = 10

_SagaName = Annotated[
    str | None, typer.Option("--saga", metavar="NAME", help="All sagas of this name that fit.")
]
_Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only those started in the last 30s, 2h, 7d.")
]


def replay(
    context: typer.Context,
    reason: Reason,
    references: References = None,
    name: _SagaName = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="All stuck sagas that fit.")] = False,
    since: _Since = None,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="Undo what was done from this step on, and go on from there.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="Fields of the saga's data to correct."),
    ] = None,
    no_effect: Annotated[
        bool,
        typer.Option(
            "--no-effect",
            help="You know that the calls which failed had no effect elsewhere: what is sent again "
            "gets a new idempotency key. Without it the key stays, and nothing is done twice.",
        ),
    ] = False,
    canary: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Replay this many first, and the rest only if none of them gets stuck again; "
            "1 for more than 10 sagas if not given.",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for the canaries."),
    ] = 60.0,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Resume stuck sagas from where they failed.

    Finished steps stay as they are; what failed is done again.  Name the sagas, or give --stuck.
    """
    desk: Desk = context.obj
    app = desk.prepare_to_act("replay")
    deed = _deed("replay", "replayed", actor, reason, dry_run=dry_run, json=json)
    act = Replayed(
        reason=deed.reason, from_step=from_step, data=_correction(data), no_effect=no_effect
    )
    if name is not None and not stuck:
        raise Complaint(f"--saga {name} needs --stuck: only a stuck saga can be replayed")
    if since is not None and not stuck:
        raise Complaint("--since needs --stuck")
    statuses = (Status.STUCK,) if stuck else ()
    targets = _targets(desk, app, deed, references, name, statuses, since, yes=yes)
    first = canary if canary is not None else int(len(targets) > _MANY)
    carry_out(
        desk,
        deed,
        targets,
        _do(desk, act, deed),
        nothing=f"no {_what(name, statuses)} fits",
        canaries=Canaries(first, wait),
    )


def cancel(
    context: typer.Context,
    reason: Reason,
    references: References = None,
    name: _SagaName = None,
    status: Annotated[
        list[Status] | None,
        typer.Option(
            metavar="STATUS", help="With --saga: only those in it; running and stuck if not given."
        ),
    ] = None,
    since: _Since = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Undo sagas, unless they are past their pivot.

    A saga turns back at once, a stuck one too: what has not begun is revoked, and what is
    being handled is awaited.  Name the sagas, or give --saga.
    """
    desk: Desk = context.obj
    app = desk.prepare_to_act("cancel")
    deed = _deed("cancel", "cancelled", actor, reason, dry_run=dry_run, json=json)
    if name is None and (status or since is not None):
        raise Complaint("--status and --since need --saga")
    chosen = tuple(status or (Status.RUNNING, Status.STUCK)) if name is not None else ()
    targets = _targets(desk, app, deed, references, name, chosen, since, yes=yes)
    act = Cancelled(reason=deed.reason)
    nothing = f"no {_what(name, chosen)} fits"
    carry_out(desk, deed, targets, _do(desk, act, deed), nothing=nothing)


def skip(
    context: typer.Context,
    reference: Reference,
    step: Annotated[str, typer.Argument(metavar="STEP", help="A step of it that failed.")],
    reason: Reason,
    actor: Actor = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Declare a failed step settled by other means.

    Its saga goes on without its outcome, and does not compensate it later.
    """
    desk: Desk = context.obj
    app = desk.prepare_to_act("skip")
    deed = _deed("skip", "skipped", actor, reason, dry_run=dry_run, json=json)
    targets = _targets(desk, app, deed, [reference], None, (), None, yes=True)
    carry_out(desk, deed, targets, _do(desk, Skipped(step=step, reason=deed.reason), deed))


def _deed(
    verb: str, past: str, actor: str | None, reason: str, *, dry_run: bool, json: bool
) -> Deed:
    return Deed(verb, verb, past, read_actor(actor), read_reason(reason), dry_run, json)


def _do(desk: Desk, act: Message, deed: Deed) -> Act:
    def do(saga: Target) -> Done:
        acted = act_on_saga(desk.runtime, saga.id, act, actor=deed.actor, dry_run=deed.dry_run)
        return Done(saga, acted)

    return do


def _targets(
    desk: Desk,
    app: str,
    deed: Deed,
    references: Sequence[str] | None,
    name: str | None,
    statuses: Sequence[Status],
    since: str | None,
    *,
    yes: bool,
) -> list[Target]:
    """The sagas that are named, or that fit the filter; what fits is shown, and asked about."""
    if references and statuses:
        raise Complaint("name sagas, or say which ones fit; not both")
    if not references and not statuses:
        fit = "--stuck" if deed.verb == "replay" else "--saga NAME"
        raise Complaint(f"say which sagas to {deed.verb}: an id or NAME:KEY, or {fit}")
    if references:
        with desk.reading() as unit:
            return unique(
                Target(find_saga(unit, desk.schema, reference), one_line(reference))
                for reference in references
            )
    if name is not None:
        definition_of(desk, app, name)  # a mistyped name fits nothing, and must not look like that
    age = read_age(since)
    with desk.reading() as unit:
        chosen = choose_sagas(unit, desk.schema, statuses=statuses, name=name, since=age)
    targets = [Target(saga.id, one_line(saga.reference)) for saga in chosen]
    confirm(deed, targets, _what(name, statuses, len(targets)), yes=yes)
    return targets


def _what(name: str | None, statuses: Sequence[Status], count: int = 1) -> str:
    kind = " or ".join(status.value for status in statuses)
    return f"{kind} saga{'s' * (count != 1)}" + (f" of {name}" if name else "")


def _correction(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        fields = json_text.loads(read_source(source))
    except ValueError as error:
        where = f" at line {error.lineno}" if isinstance(error, json_text.JSONDecodeError) else ""
        raise Complaint(f"--data is not JSON{where}") from error
    if not isinstance(fields, dict):
        raise Complaint('--data must be an object of the fields to correct, such as {"cents": 5}')
    return fields
