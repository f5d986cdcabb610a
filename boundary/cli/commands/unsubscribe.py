"""Unsubscribing: `saga unsubscribe`, the end of a reaction that a release has no more."""

from typing import Annotated

import typer

from boundary.cli.options import Actor, DryRun, Json, Reason, read_actor, read_reason
from boundary.cli.output import show_json
from boundary.cli.session import Desk
from boundary.operations.unsubscribe import Unsubscribed, unsubscribe
from boundary.rendering.words import one_line


def unsubscribe_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTEXT", help="The context's name.")],
    reason: Reason,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="An event; all that the application does not react to if not given.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for what is under way."),
    ] = 30.0,
    actor: Actor = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """End a context's subscription, and revoke what is open for it.

    For a release that no longer reacts to an event, or has lost the context.  Steps that wait
    until all is settled go on.
    """
    desk: Desk = context.obj
    desk.prepare_to_act("unsubscribe")
    who, why = read_actor(actor), read_reason(reason)
    with desk.database_errors():
        done = unsubscribe(
            desk.runtime, name, kind, actor=who, reason=why, dry_run=dry_run, patience=wait
        )
    if json:
        document = {
            "context": name,
            "kinds": list(done.kinds),
            "open": done.open,
            "publishing": done.publishing,
        }
        counted = {"would_revoke": done.revoked} if dry_run else {"revoked": done.revoked}
        show_json({**document, **counted, "actor": who, "reason": why})
    else:
        typer.echo(_said(done, dry_run=dry_run))
    if done.open:
        raise typer.Exit(1)


def _said(done: Unsubscribed, *, dry_run: bool) -> str:
    would, kinds = "would be " if dry_run else "", ", ".join(map(one_line, done.kinds))
    told = "" if dry_run else "was "
    said = (
        f"{one_line(done.consumer)} {would or told}unsubscribed from {kinds}; "
        f"{_deliveries(done.revoked)} {would}revoked"
    )
    if done.open:
        said += f"; {_deliveries(done.open)} being handled still: unsubscribe once more after that"
    if done.publishing:
        said += (
            "; a transaction that began before may publish to it yet: unsubscribe once more then"
        )
    return said


def _deliveries(count: int) -> str:
    return f"{count:,} {'delivery' if count == 1 else 'deliveries'}"
