"""Bridge: commands on events that come from, and go to, the streams of others."""

import logging
import signal
import threading
from typing import Annotated, Any

import typer

from boundary.bridges.cloud_event import schema as schema_of
from boundary.cli.errors import Complaint
from boundary.cli.output import show_json
from boundary.cli.session import Desk
from boundary.runtime.composition import administration_of, wiring_of
from saga.messages import Event

bridge = typer.Typer(
    name="bridge",
    help="Read events from streams of others, or describe yours.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@bridge.command()
def receive(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="An incoming bridge.")],
) -> None:
    """Take events from a stream until SIGTERM or Ctrl-C.

    Several may run at once; what is read and not stored yet comes again.
    """
    desk: Desk = context.obj
    desk.require_app("bridge receive")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    with desk.database_errors():
        receiver = administration_of(desk.runtime).receiver(name)

    def stopped(*_: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    typer.echo(f"{name}: reading")
    receiver.run(stop)


@bridge.command()
def schema(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="An event, such as trips.booked.")],
) -> None:
    """Print the JSON Schema of an event as it travels."""
    desk: Desk = context.obj
    app = desk.require_app("bridge schema")
    events = {
        message.kind: message
        for of in wiring_of(desk.runtime).contexts
        for handler in of.handlers.values()
        for message in (handler.message, *handler.emits)
        if issubclass(message, Event)
    }
    if kind not in events:
        raise Complaint(f"{app} has no event {kind!r}; it has {', '.join(sorted(events))}")
    show_json(schema_of(events[kind]))
