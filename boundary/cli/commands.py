"""Commands: the list of them, and the options that all of them share."""

from typing import Annotated

import typer

from boundary.cli import diagnosing, reading, running
from boundary.cli.application import APP_VARIABLE
from boundary.cli.desk import Desk

cli = typer.Typer(
    name="saga",
    help="Start, run and look into sagas.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Commands in the order of the help.
_COMMANDS = (
    running.migrate,
    running.subscribe,
    running.worker,
    running.start,
    reading.list_,
    reading.show,
    reading.trace,
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
    """Start, run and look into sagas.

    Postgres and Redis are those of SAGA_DATABASE_URL and SAGA_REDIS_URL; without them embedded
    ones are started in the folder .saga.
    """
    context.obj = desk = Desk(app)
    context.call_on_close(desk.close)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in _COMMANDS:
    # Dramatiq has options of its own, which `worker` hands on.
    extra = command is running.worker
    cli.command(
        name=command.__name__.rstrip("_"),
        context_settings={"allow_extra_args": extra, "ignore_unknown_options": extra},
    )(command)
