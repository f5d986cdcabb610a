"""How long an event waits after the one before it of its key was handled, on a real worker.

    python -m benchmarks.ordered [--events N] [--json]

All events of a scenario have one key.  In `one batch` a handler publishes all of them; in `settled` it
does so below a step that ends when every reaction is done; in `many batches` four hosts publish them one
by one, each in a transaction of its own; in `busy` sagas of other contexts keep the same worker at
work; in `own database` the reactions are in a second one.  A gap is the time between the ends of two
deliveries that follow each other, as Postgres' clock says; in `many batches` it holds the publisher's
pace as well.

The servers are those of `SAGA_DATABASE_URL` and `SAGA_REDIS_URL`, or embedded ones.  Everything
happens in a schema, a second database and a namespace of the run's own, which are dropped at the end.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from statistics import median
from uuid import uuid4

from pydantic import BaseModel, SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, make_url, text

from benchmarks.servers import own_schema, worker
from boundary import Runtime, Settings
from boundary.migration import migrate
from internals import Context, Work
from saga import SETTLED, Command, Event, Saga, Step

#: Seconds that a scenario may take.
_PATIENCE = 300.0

#: The second database, as contexts name it.
_ANNEX = "annex"


class Drive(BaseModel):
    """What one saga begins with."""

    truck: str
    places: int
    event: str


class Report(Command, kind="fleet.report"):
    truck: str
    places: int
    event: str


class Moved(Event, kind="fleet.moved"):
    truck: str


class Noted(Event, kind="fleet.noted"):
    truck: str


class Idle(Command, kind="depot.idle"):
    pass


fleet = Context("fleet")
depot = Context("depot")
board = Context("board")
remote = Context("remote", database=_ANNEX)


@fleet.handles(Report, emits=(Moved, Noted))
def report(command: Report, work: Work) -> None:
    event = Moved if command.event == Moved.kind else Noted
    for _ in range(command.places):
        work.publish(event(truck=command.truck))


@depot.handles(Idle)
def idle(_: Idle, work: Work) -> None:
    work.execute("SELECT 1")


@board.reacts_to(Moved, ordered_by="truck")
def put_up(_: Moved, work: Work) -> None:
    work.execute("SELECT 1")


@remote.reacts_to(Noted, ordered_by="truck")
def put_up_there(_: Noted, work: Work) -> None:
    work.execute("SELECT 1")


def _report(drive: Drive) -> Report:
    return Report(truck=drive.truck, places=drive.places, event=drive.event)


DRIVE = Saga("drive", Drive, steps=(Step("report", _report),))
SETTLED_DRIVE = Saga("settled_drive", Drive, steps=(Step("report", _report, until=SETTLED),))
ERRANDS = Saga(
    "errands", Drive, steps=tuple(Step(f"idle_{n}", lambda _: Idle()) for n in range(20))
)


def build_runtime(settings: Settings) -> Runtime:
    """Return the runtime of the hosts and of the worker."""
    return Runtime(
        sagas=[DRIVE, SETTLED_DRIVE, ERRANDS],
        contexts=[fleet, depot, board, remote],
        settings=settings,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _parser().parse_args(arguments)
    with own_schema() as made, _annex(made) as settings:
        rows = {name: measure(settings, options.events, load) for name, load in SCENARIOS.items()}
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table("events of one key", "gap p50 ms", "p99 ms", "longest ms", title="Ordered events")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[figure]:.1f}" for figure in ("p50", "p99", "longest")))
    Console().print(table)


def measure(
    settings: Settings, events: int, load: Callable[[Runtime, str, int], None]
) -> dict[str, float]:
    """Let a worker handle so many events of one key; returns the gaps in milliseconds."""
    truck = uuid4().hex
    with closing(build_runtime(settings)) as runtime:
        runtime.subscribe()
        with worker(settings, 1, 8, module="benchmarks.ordered_worker") as running:
            load(runtime, "warm", 10)
            running.wait_for(lambda: len(_done(runtime, "warm")) == 10, every=0.01, seconds=60)
            load(runtime, truck, events)
            running.wait_for(
                lambda: len(_done(runtime, truck)) == events, every=0.1, seconds=_PATIENCE
            )
        done = _done(runtime, truck)
        with runtime.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {settings.db_schema}.inbox"))
    gaps = sorted(1000 * (b - a) for a, b in pairwise(done))
    return {
        "p50": median(gaps),
        "p99": gaps[math.ceil(0.99 * len(gaps)) - 1],
        "longest": gaps[-1],
    }


def _in_one_batch(
    runtime: Runtime, truck: str, events: int, saga: Saga[Drive] = DRIVE, of: str = Moved.kind
) -> None:
    with runtime.engine.begin() as connection:
        runtime.start(connection, saga, Drive(truck=truck, places=events, event=of))


def _in_many_batches(runtime: Runtime, truck: str, events: int) -> None:
    def publish(_: int) -> None:
        with runtime.engine.begin() as connection:
            runtime.publish(connection, Moved(truck=truck))

    with ThreadPoolExecutor(4) as hosts:
        list(hosts.map(publish, range(events)))


def _while_busy(runtime: Runtime, truck: str, events: int) -> None:
    with runtime.engine.begin() as connection:
        errands = [Drive(truck=truck, places=0, event="")] * (3 * events // 10)
        runtime.start_many(connection, ERRANDS, errands)
    _in_one_batch(runtime, truck, events)


SCENARIOS: dict[str, Callable[[Runtime, str, int], None]] = {
    "one batch": _in_one_batch,
    "settled": partial(_in_one_batch, saga=SETTLED_DRIVE),
    "many batches": _in_many_batches,
    "busy": _while_busy,
    "own database": partial(_in_one_batch, of=Noted.kind),
}


def _done(runtime: Runtime, truck: str) -> list[float]:
    """Return when the deliveries of this key ended, in their order."""
    with runtime.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT extract(epoch FROM done_at)::float8 "
                f"FROM {runtime.settings.db_schema}.inbox "
                "WHERE ordering_key LIKE '%:' || :truck AND state = 'done' ORDER BY ordering_no"
            ),
            {"truck": truck},
        )
        return list(rows.scalars())


@contextmanager
def _annex(settings: Settings) -> Iterator[Settings]:
    """Make the second database."""
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value())
    there = url.set(database=settings.db_schema)
    owner = create_engine(url, isolation_level="AUTOCOMMIT")
    with owner.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {settings.db_schema}"))
    try:
        engine = create_engine(there)
        migrate(engine, settings.db_schema)
        engine.dispose()
        databases = {_ANNEX: SecretStr(there.render_as_string(hide_password=False))}
        yield settings.model_copy(update={"databases": databases})
    finally:
        with owner.connect() as connection:
            connection.execute(text(f"DROP DATABASE {settings.db_schema} WITH (FORCE)"))
        owner.dispose()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ordered", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--events", type=int, default=1000, help="of each scenario")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
