"""App: the list of commands, and the options that all of them share."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from boundary.cli.commands import backfill as backfilling
from boundary.cli.commands import doctor as diagnosing
from boundary.cli.commands import inspect as reading
from boundary.cli.commands import run as running
from boundary.cli.commands import sagas as acting
from boundary.cli.commands import signal as signalling
from boundary.cli.commands import unsubscribe as unsubscribing
from boundary.cli.commands.bridge import bridge
from boundary.cli.commands.parked import parked
from boundary.cli.load_app import APP_VARIABLE
from boundary.cli.session import Desk


class _InOrder(TyperGroup):
    """Lists commands in the order of the help, the groups among them too."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [_name(command) for command in _COMMANDS]


cli = typer.Typer(
    name="saga",
    help="Start, run, inspect and repair sagas.",
    cls=_InOrder,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Commands in the order of the help.
_COMMANDS: tuple[Callable[..., None] | typer.Typer, ...] = (
    running.migrate,
    running.subscribe,
    running.worker,
    bridge,
    running.start,
    reading.list_,
    reading.show,
    reading.trace,
    acting.replay,
    acting.skip,
    acting.cancel,
    signalling.signal,
    parked,
    backfilling.backfill_,
    unsubscribing.unsubscribe_,
    reading.export,
    diagnosing.doctor,
    running.demo,
)


@cli.callback(invoke_without_command=True)
def shared(
    context: typer.Context,
    app: Annotated[
        str | None,
        typer.Option(
            envvar=APP_VARIABLE,
            metavar="MODULE:ATTRIBUTE",
            help="Your application's Runtime, or a function that returns it. "
            "Commands that only read need none.",
        ),
    ] = None,
) -> None:
    """Start, run, inspect and repair sagas.

    Postgres and Redis are those of SAGA_DATABASE_URL and SAGA_REDIS_URL; without them embedded
    ones are started in the folder .saga.
    """
    desk: Desk = context.obj or Desk(app)
    context.obj = desk
    context.call_on_close(desk.close)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _name(command: Callable[..., None] | typer.Typer) -> str:
    return (
        str(command.info.name) if isinstance(command, typer.Typer) else command.__name__.rstrip("_")
    )


for command in _COMMANDS:
    if isinstance(command, typer.Typer):
        cli.add_typer(command)
        continue
    # Dramatiq has options of its own, which `worker` hands on.
    extra = command is running.worker
    cli.command(
        name=_name(command),
        context_settings={"allow_extra_args": extra, "ignore_unknown_options": extra},
    )(command)
