"""The demo: a day's trips are booked or undone while workers are killed, and all is checked.

Everything runs for real: Postgres, Redis, `dramatiq` processes and SIGKILL.  The tables live in
schemas of the demo's own, named after the configured one, which it drops and makes anew; what it
leaves can be looked at with ``SAGA_SCHEMA=saga_demo saga list``.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.schema import DropSchema

from boundary import Runtime, Settings
from boundary.runtime.servers import Servers
from examples.travel import aftercare
from examples.travel.airline import Airline, hold_back
from examples.travel.app import build_runtime
from examples.travel.checks import check
from examples.travel.contexts import create_tables
from examples.travel.day import FLIGHTS_FILE, Day, Flight, FlightsFileError, read_day
from examples.travel.disrupted import check_disrupted, read_disrupted
from examples.travel.drive import Faults, drive
from examples.travel.interruption import Interrupted, Interruption
from examples.travel.progress import Progress
from examples.travel.record import check_record, read_rejections, read_statuses
from examples.travel.report import Report, write_json, write_report
from examples.travel.trips import Trip, make_trips
from examples.travel.workers import Workers


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``saga demo`` takes."""

    #: A day's flights, in the format of the shipped file.
    flights: Path | None = None
    trips: int = 2000
    workers: int = 2
    #: Seconds between two SIGKILLs; 0 kills none.
    kill_every: float = 2.0
    #: Seconds between two wipes of Redis; 0 wipes it never.
    flush_every: float = 0.0
    seed: int = 20130208
    json: bool = False
    #: Whether flights are cancelled that have been booked, and their travellers rebooked.
    disruption: bool = False


class _Refused(Exception):
    """The demo cannot run here, and says why."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo and print its report.

    Returns 0 if every check held, 1 if one did not, such as when there was to be a disruption and
    no trip was disrupted, 2 if it cannot run (nothing is started then), 130 if it was interrupted.
    """
    try:
        day = read_day(options.flights or FLIGHTS_FILE)
        _check_options(options)
        interruption = Interruption()
        with interruption.listening():
            trips = make_trips(day, options.trips, options.seed)
            late: tuple[Flight, ...] = ()
            if options.disruption:
                day, late = hold_back(day)
            report = _run(options, day, trips, late, interruption)
    except (FlightsFileError, _Refused) as error:
        _say(str(error))
        return 2
    except Interrupted:
        _say("Interrupted; all that was started is stopped.")
        return 130
    return 0 if report.ok else 1


def _check_options(options: DemoOptions) -> None:
    for name, least in (("trips", 1), ("workers", 1), ("kill_every", 0), ("flush_every", 0)):
        if getattr(options, name) < least:
            flag = name.replace("_", "-")
            raise _Refused(f"--{flag} must be {least} or more, not {getattr(options, name)}.")


def _run(
    options: DemoOptions,
    day: Day,
    trips: list[Trip],
    late: Sequence[Flight],
    interruption: Interruption,
) -> Report:
    given = Settings()
    servers = Servers(given)
    try:
        # The workers are told the very servers that are started, or given, here.
        settings = given.model_copy(
            update={
                "database_url": given.database_url or SecretStr(servers.database_url),
                "redis_url": given.redis_url or SecretStr(servers.redis_url),
                "db_schema": f"{given.db_schema}_demo",
                "namespace": f"{given.namespace}_demo",
            }
        )
        runtime = build_runtime(settings, _travel_schema(settings))
        try:
            with _alone(runtime):
                _make_tables(runtime, day)
                faults = Faults(
                    kill_every=options.kill_every,
                    flush_every=options.flush_every,
                    whole_server=given.redis_url is None,
                )
                faults.wipe(runtime)
                interruption.check()
                return _book(options, runtime, trips, late, faults, interruption)
        finally:
            runtime.close()
    finally:
        servers.stop()


@contextmanager
def _alone(runtime: Runtime) -> Iterator[None]:
    """Refuse to run beside another demo on the same database: they would share the tables."""
    with runtime.engine.connect() as connection:
        lock = {"name": f"demo in {runtime.settings.db_schema}"}
        if not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext(:name))"), lock):
            raise _Refused("Another demo runs on this database; wait for it to end.")
        connection.commit()
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtext(:name))"), lock)
            connection.commit()


def _make_tables(runtime: Runtime, day: Day) -> None:
    settings = runtime.settings
    with runtime.engine.begin() as connection:
        for schema in (settings.db_schema, _travel_schema(settings)):
            connection.execute(DropSchema(schema, cascade=True, if_exists=True))
    runtime.migrate()
    runtime.subscribe()  # the first flight is cancelled before a worker is up
    with runtime.engine.begin() as connection:
        create_tables(connection, day)
        aftercare.create_tables(connection)


def _book(
    options: DemoOptions,
    runtime: Runtime,
    trips: list[Trip],
    late: Sequence[Flight],
    faults: Faults,
    interruption: Interruption,
) -> Report:
    with TemporaryDirectory(prefix="saga-demo-") as folder:
        log = Path(folder) / "workers.log"
        workers = Workers(options.workers, _environment(runtime.settings), log, options.seed)
        progress = Progress(len(trips), shown=not options.json)
        started = time.monotonic()
        try:
            workers.start()
            with progress:
                drive(runtime, trips, Airline(late), workers, faults, progress, interruption)
            seconds = time.monotonic() - started
        finally:
            workers.stop()
    schema = runtime.settings.db_schema
    with runtime.engine.connect() as connection:
        statuses = read_statuses(connection, schema)
        found = read_disrupted(connection, schema) if options.disruption else None
        booked = trips if found is None else found.as_booked_now(trips)
        checks = [*check(connection, booked, statuses), *check_record(connection, schema)]
        if found is not None:
            checks += check_disrupted(connection, found, trips)
        report = Report(
            trips=len(trips),
            statuses=statuses,
            rejections=read_rejections(connection, schema),
            kills=workers.kills,
            flushes=faults.flushes,
            seconds=seconds,
            checks=tuple(checks),
            disrupted=found,
        )
        if options.json:
            write_json(report)
            for one in report.checks:
                if not one.ok:  # of which the document has no more than the name
                    _say(f"{one.name.replace('_', ' ')}: {one.detail}")
        else:
            write_report(report, connection, schema)
    return report


def _environment(settings: Settings) -> dict[str, str]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "SAGA_DATABASE_URL": settings.database_url.get_secret_value(),
        "SAGA_REDIS_URL": settings.redis_url.get_secret_value(),
        "SAGA_SCHEMA": settings.db_schema,
        "SAGA_NAMESPACE": settings.namespace,
        "TRAVEL_SCHEMA": _travel_schema(settings),
    }


def _travel_schema(settings: Settings) -> str:
    """The schema of the contexts' tables, beside the framework's."""
    return f"{settings.db_schema}_travel"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201
