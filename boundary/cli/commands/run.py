"""Run: migrate, subscribe, worker, start and demo."""

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from boundary.cli.errors import Complaint
from boundary.cli.load_app import APP_VARIABLE
from boundary.cli.options import read_source
from boundary.cli.session import Desk
from boundary.runtime.composition import wiring_of
from saga.definition import Saga

#: What the `dramatiq` command imports.
_WORKER = "boundary.cli.dramatiq_worker:broker"
#: Where the demo is, if it is installed; the framework itself knows no example.
_DEMO = "examples.travel.demo"


def migrate(context: typer.Context) -> None:
    """Create the framework's tables, or upgrade them."""
    desk: Desk = context.obj
    with desk.database_errors():
        desk.runtime.migrate()
    others = len(desk.runtime.own_engines)
    where = f" in {others + 1} databases" if others else ""
    typer.echo(f"schema {desk.schema} is up to date{where}")


def subscribe(context: typer.Context) -> None:
    """Record which events your contexts react to.

    Workers do it when they boot.  Run it first when contexts have separate workers.
    """
    desk: Desk = context.obj
    desk.require_app("subscribe")
    with desk.database_errors():
        desk.runtime.subscribe()
    kinds = {
        kind for context in wiring_of(desk.runtime).contexts for kind, _ in context.subscriptions
    }
    typer.echo(f"{len(kinds)} kind{'s' * (len(kinds) != 1)} of events recorded")


def worker(
    context: typer.Context,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; one a core if not given.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of each process.")
    ] = None,
) -> None:
    """Run your application's Dramatiq workers.

    They run contexts, orchestrators and the relay.  Other options are passed to the dramatiq command, such as --use-spawn or --watch.
    """
    desk: Desk = context.obj
    app = desk.require_app("worker")
    _ = desk.runtime  # what is wrong with it is told here, once, and not by every process
    desk.close()
    command = [sys.executable, "-m", "dramatiq", _WORKER]
    command += ["--processes", str(processes)] if processes else []
    command += ["--threads", str(threads)] if threads else []
    sys.stdout.flush()
    # Dramatiq takes this process's place, so signals reach it.
    os.execve(command[0], [*command, *context.args], {**os.environ, APP_VARIABLE: app})  # noqa: S606


def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The saga's name.")],
    data: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="Its data; - reads standard input.")
    ],
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Business key, if not the saga's own.")
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(metavar="N", help="Version of the definition; the highest if not given."),
    ] = None,
) -> None:
    """Start a saga and print its id.

    The same key with the same data gives the same saga.
    """
    desk: Desk = context.obj
    app = desk.require_app("start")
    saga = definition_of(desk, app, name, version)
    value = _data(saga, read_source(data))
    desk.check_redis_url()
    with desk.writing() as connection:
        id = desk.runtime.start(connection, saga, value, key=key)
    typer.echo(str(id))


def demo(
    flights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A day's flights; if not given, the demo's own."),
    ] = None,
    trips: Annotated[int, typer.Option(min=1, metavar="N", help="Trips to book.")] = 2000,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Worker processes.")] = 2,
    kill_every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Kill a worker this often; 0 for never.")
    ] = 2.0,
    flush_every: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wipe Redis this often; 0 for never.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Makes the same trips again.")] = 20130208,
    disruption: Annotated[
        bool,
        typer.Option("--disruption", help="Cancel flights that were booked, and rebook."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Book a day's trips while workers are killed.

    Runs on the flights of a real day, and checks at the end that nothing was lost or done twice.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(_DEMO)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{_DEMO}.".startswith(f"{error.name}."):
            raise
        raise Complaint(
            "the demo comes with the source and not with the installed package: "
            "run `make demo` in a checkout"
        ) from error
    options = module.DemoOptions(
        flights=flights,
        trips=trips,
        workers=workers,
        kill_every=kill_every,
        flush_every=flush_every,
        seed=seed,
        disruption=disruption,
        json=json,
    )
    raise typer.Exit(module.run_demo(options))


def definition_of(desk: Desk, app: str, name: str, version: int | None = None) -> Saga[Any]:
    """Return the application's definition, of the highest version if none is given.

    Raises `Complaint` if it has none.
    """
    sagas = wiring_of(desk.runtime).sagas
    if name not in sagas:
        known = f"it has {', '.join(sorted(sagas))}" if sagas else "it has no saga at all"
        raise Complaint(f"{app} has no saga {name!r}; {known}")
    versions = sagas[name]
    chosen = max(versions) if version is None else version
    if chosen not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise Complaint(f"{app} has no version {chosen} of {name}; it has {known}")
    return versions[chosen]


def _data(saga: Saga[Any], text: str) -> BaseModel:
    """Read a saga's data; an error in it is reported without its values."""
    try:
        value: BaseModel = saga.data.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Complaint(f"--data is not JSON: {first['msg'].partition(': ')[2]}") from error
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise Complaint(
            f"--data does not fit {saga.data.__name__}, the data of {saga.name}: "
            f"{where}: {first['msg']}"
        ) from error
    return value
