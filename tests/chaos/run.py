"""One run: everything is started, struck, awaited, stopped and checked."""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url

from examples.travel.checks import Check
from tests.chaos.app import runtime_of
from tests.chaos.blame import read_blame
from tests.chaos.checker import inspect
from tests.chaos.crew import Crew, Job, companion, worker
from tests.chaos.deploy import migrate
from tests.chaos.drive import Drive, Driven, Standing
from tests.chaos.echoes import Echoes
from tests.chaos.faults import Storm, messages_lane, postgres_lane, redis_lane, workers_lanes
from tests.chaos.frost import Frost
from tests.chaos.gateway import read_calls
from tests.chaos.operating import read_acts
from tests.chaos.partner_server import read_orders
from tests.chaos.plan import PLAN, SCHEMA, Plan
from tests.chaos.profiles import PROFILES, Profile
from tests.chaos.report import Report, checks_of_run
from tests.chaos.servers import OwnServers
from tests.chaos.standstill import judge_standstill, longest
from tests.chaos.subjects import Evidence
from tests.chaos.tally import Tally
from tests.chaos.trips import make_trips
from tests.chaos.worker_faults import EXHAUSTED, POOL, SKEW, SKEWED


@dataclass(frozen=True, slots=True)
class Options:
    """What the command takes."""

    profile: str
    trips: int
    seed: int = 1
    workers: int = 4
    #: The storm lasts so many seconds at least.
    seconds: float = 0.0
    #: The partners have a Postgres of their own.
    own_database: bool = False
    #: Leave the run's folder, with the workers' log, for somebody to look at.
    keep: bool = False


def run(options: Options, progress: Callable[[Standing | None], None]) -> Report:
    """Run a profile and report; all that was started is stopped, whatever happens."""
    profile = PROFILES[options.profile]
    if options.own_database:
        profile = profile.apart()
    os.environ.update(profile.environment)  # this process's own, and those of all that it starts
    begun = time.monotonic()
    trips = make_trips(options.trips, options.seed)
    with ExitStack() as stack:
        small_disk = "disk_full" in profile.faults
        servers = stack.enter_context(
            OwnServers(
                options.trips,
                small_disk=small_disk,
                apart=options.own_database,
                keep=options.keep,
            )
        )
        tally = Tally(servers.folder)
        outside = stack.enter_context(ExitStack())
        plan = _plan(profile, options, servers, outside)
        os.environ[PLAN] = str(plan.save())
        host = runtime_of(plan)
        stack.callback(host.close)
        migrated = migrate(profile, host, servers)
        crew = Crew(servers.folder, _jobs(profile, options.workers))
        stack.callback(crew.kill_all)
        echoes = Echoes(servers.database_url, host._wiring.broker.ring)  # type: ignore[arg-type]
        stack.callback(echoes.close)
        storm = Storm(
            [
                *workers_lanes(crew, servers, tally),
                postgres_lane(servers),
                redis_lane(servers),
                messages_lane(echoes),
            ],
            profile.faults,
            profile.calm,
            tally,
            options.seed,
        )
        frost = (
            Frost(servers.folder, crew, profile.worker_freezes, tally) if profile.freezes else None
        )
        if frost is not None:
            stack.callback(frost.close)
        drive = Drive(
            host,
            profile.subject.saga,
            trips,
            servers,
            crew,
            tally,
            attended=profile.attended,
            needed=profile.faults,
            under_way=profile.under_way,
            seconds=options.seconds,
            seed=options.seed,
            progress=progress,
        )
        driven = drive.run(storm)
        if frost is not None:  # all was quiet with these still frozen: what do they do now?
            frost.thaw_all()
            drive.await_quiet()
        crew.stop()
        outside.close()  # what the partner was to do later is done now
        struck = tally.read()
        faults = {fault: struck.get(fault, 0) for fault in profile.faults}
        judged: list[Check] = []
        with ExitStack() as reading:
            connection = _read(servers.database_url, reading)
            apart = servers.partners_url and _read(servers.partners_url, reading)
            findings = inspect(
                connection,
                SCHEMA,
                Evidence(
                    trips,
                    driven.acknowledged,
                    frozenset(driven.contradicted),
                    tuple(read_calls(servers.folder / "gateway.jsonl")),
                    frozenset(read_acts(servers.folder)),
                    tuple(read_orders(servers.folder / "partner.jsonl")),
                ),
                apart or None,
                subject=profile.subject,
            )
            if frost is not None:
                judged.append(_standstill(connection, driven, frost))
        checks = checks_of_run(
            faults,
            driven.seconds_to_drain,
            crew.stubborn,
            read_blame(servers.folder),
            servers.no_disk,
        )
        return Report(
            profile=options.profile,
            trips=options.trips,
            seed=options.seed,
            seconds=time.monotonic() - begun,
            seconds_to_drain=driven.seconds_to_drain,
            faults=faults,
            findings=findings,
            more_checks=(*checks, _all_asked_for(driven, options.trips), migrated, *judged),
        )


def _plan(profile: Profile, options: Options, servers: OwnServers, stack: ExitStack) -> Plan:
    """Start what stands beside the workers, and tell them where everything is."""
    folder, seed = servers.folder, str(options.seed)
    gateway = stack.enter_context(companion("tests.chaos.gateway", str(folder), seed))
    partner = stack.enter_context(companion("tests.chaos.partner_server", str(folder), seed))
    database_url, redis_url = servers.database_url, servers.redis_url
    partners_url = servers.partners_url
    if profile.network:
        proxy = ("tests.chaos.proxy", str(folder), json.dumps(profile.network), seed)
        ports = json.loads(stack.enter_context(companion(*proxy)))
        database_url = _at_port(database_url, ports["postgres"])
        redis_url = _at_port(redis_url, ports["redis"])
        partners_url = partners_url and _at_port(partners_url, ports["partners"])
    return Plan(
        folder=folder,
        seed=options.seed,
        database_url=database_url,
        redis_url=redis_url,
        gateway_url=gateway,
        partner_url=partner,
        partners_url=partners_url,
        failpoints=profile.failpoints,
        hangs=profile.hangs,
        doorbells=profile.doorbells,
    )


def _jobs(profile: Profile, workers: int) -> Sequence[Job]:
    """Who works in this run; the first few may be odd."""
    odd: dict[int, Job] = {}
    if SKEWED in profile.faults:
        odd = {0: worker(4, {SKEW: "-3600"}), 2: worker(4, {SKEW: "3600"})}
    if EXHAUSTED in profile.faults:
        odd[1] = worker(64, {POOL: "2"})
    people = ["operating", *(["attending"] if profile.attended else [])]
    return [
        *(odd.get(place, worker(4, {})) for place in range(workers)),
        *(Job(("-m", f"tests.chaos.{each}"), spared=True) for each in people),
    ]


def _standstill(connection: Connection, driven: Driven, frost: Frost) -> Check:
    now = time.monotonic()
    return judge_standstill(
        longest(connection, SCHEMA, list(driven.acknowledged.values())),
        driven.longest_call,
        lambda each: frost.at(now - each.ago, now - each.ago + each.seconds),
    )


def _all_asked_for(driven: Driven, trips: int) -> Check:
    """The host was in the end told of each trip that it is started."""
    left = trips - len(driven.acknowledged)
    return Check("all_starts_acknowledged", not left, f"{left} never were" if left else "")


def _read(url: str, stack: ExitStack) -> Connection:
    engine = create_engine(url)
    stack.callback(engine.dispose)
    return stack.enter_context(engine.connect())


def _at_port(url: str, port: int) -> str:
    return make_url(url).set(port=port).render_as_string(hide_password=False)
