"""Backfilling: `saga backfill`, past events for a context that subscribes from now on."""

from collections.abc import Iterator
from typing import Annotated

import typer

from boundary.cli.errors import Complaint
from boundary.cli.options import Actor, DryRun, Json, Reason, read_actor, read_age, read_reason
from boundary.cli.output import show_json
from boundary.cli.progress import Progress
from boundary.cli.session import Desk
from boundary.operations.backfill import BackfillStep, Stage, backfill, preview_backfill
from internals.store.backfill import BackfillState


def backfill_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTEXT", help="The context's name.")],
    reason: Reason,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Events of the last 30s, 2h, 7d; leave it out to go on with one that was stopped.",
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, metavar="N", help="Events a second at most.")] = 500,
    actor: Actor = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a context past events from the log, in order.

    Live events wait until it has finished.  One that was stopped goes on where it was.
    """
    desk: Desk = context.obj
    desk.prepare_to_act("backfill")
    who, why, age = read_actor(actor), read_reason(reason), read_age(since)
    with desk.database_errors():
        if dry_run:
            if age is None:
                raise Complaint("--dry-run needs --since: it counts what would be handed over")
            count = preview_backfill(desk.runtime, name, age)
            if json:
                show_json({"context": name, "would_hand": count})
            else:
                typer.echo(f"{name} would be handed {_events(count)}")
            return
        steps = backfill(desk.runtime, name, age, rate=rate, actor=who, reason=why)
        state = _follow(desk, name, steps)
    if json:
        show_json(
            {
                "context": name,
                "since": state.since.isoformat(),
                "handed": state.handed,
                "actor": who,
                "reason": why,
            }
        )
    else:
        typer.echo(
            f"{name} was handed {_events(state.handed)} since {state.since:%Y-%m-%d %H:%M:%S}"
        )


def _follow(desk: Desk, name: str, steps: Iterator[BackfillStep]) -> BackfillState:
    """Go through the steps and tell how far it is; returns where it ended."""
    try:
        step = next(steps)
        if step.stage is Stage.WAITING:
            typer.echo("waiting for transactions that began before to end", err=True)
            step = _until(steps, Stage.HANDING, step)
        with Progress("read", max(0, step.state.until - step.state.reached)) as progress:
            while step.stage is Stage.HANDING:
                before, step = step, next(steps)
                progress.advance(step.state.reached - before.state.reached)
        return _until(steps, Stage.FINISHED, step).state
    except KeyboardInterrupt:
        raise Complaint(
            f"stopped; live events wait for {name} until `{desk.acting_program} backfill {name} "
            "--reason WHY` has gone on to the end",
            130,
        ) from None


def _until(steps: Iterator[BackfillStep], stage: Stage, step: BackfillStep) -> BackfillStep:
    while step.stage is not stage:
        step = next(steps)
    return step


def _events(count: int) -> str:
    return f"{count:,} past event{'s' * (count != 1)}"
