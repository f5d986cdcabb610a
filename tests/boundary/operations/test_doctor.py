"""What doctor finds, one test for each thing that can be wrong."""

import datetime as dt
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from sqlalchemy import Engine, text

from boundary import Runtime, Settings
from boundary.embedded import EmbeddedServers, EmbeddedServersError
from boundary.operations.doctor import Finding, Verdict, diagnose, shown_url
from boundary.operations.doctor.store import check_running
from boundary.queries.running import running
from boundary.queries.time_format import duration
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.inbox import Inbox
from saga import Saga, Step
from tests.boundary.worlds import shop
from tests.boundary.worlds.command_line import COMMAND, HERE, NOWHERE


@pytest.fixture(scope="module")
def durable() -> Iterator[EmbeddedServers]:
    """Servers that lose nothing in a crash, which those of other tests may."""
    top = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp")).resolve()
    top.chmod(0o755)
    with EmbeddedServers(top / "servers") as servers:
        yield servers
    shutil.rmtree(top)


@pytest.fixture
def saga(durable: EmbeddedServers) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the real command on the durable servers."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SAGA_")}
        environment = plain | {
            "SAGA_DATABASE_URL": durable.database_url,
            "SAGA_REDIS_URL": durable.redis_url,
            "COLUMNS": "80",
        }
        return subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE,
            env=environment,
        )

    return run


def place(system: Runtime, number: str, **order: Any) -> None:
    with system.engine.begin() as connection:
        system.start(connection, shop.CHECKOUT, shop.Order(number=number, **order))


def handle(system: Runtime) -> None:
    while sum(system.answer(name) for name in system._wiring.consumers):
        pass


def test_a_healthy_system_is_told_so_and_a_sick_one_too(
    saga: Callable[..., "subprocess.CompletedProcess[str]"], durable: EmbeddedServers
) -> None:
    bare = saga("doctor", "--json")
    assert (bare.returncode, bare.stderr) == (1, "")
    document = json.loads(bare.stdout)
    assert document["healthy"] is False
    [sick] = [check for check in document["checks"] if check["verdict"] != "fine"]
    assert sick == {
        "check": "schema",
        "verdict": "wrong",
        "found": "'saga' has no tables",
        "remedy": "run `saga migrate`",
    }

    assert saga("migrate").returncode == 0
    well = saga("--app", "shop:make", "doctor")
    assert (well.returncode, well.stderr) == (0, "")
    assert "✗" not in well.stdout
    assert max(map(len, well.stdout.splitlines())) <= 80
    assert "hidden" not in well.stdout
    for url in (durable.database_url, durable.redis_url):
        assert shown_url(url) in " ".join(well.stdout.split())
        assert url.rpartition("@")[0].rpartition(":")[2] not in well.stdout
    document = json.loads(saga("doctor", "--json").stdout)
    assert document["healthy"] is True
    assert {check["verdict"] for check in document["checks"]} == {"fine"}


def test_commits_that_do_not_wait_for_the_disk_are_wrong(durable: EmbeddedServers) -> None:
    url = f"{durable.database_url}?options=-csynchronous_commit%3Doff"
    with Examined(url, durable.redis_url) as found:
        assert found["durability"].verdict is Verdict.WRONG
        assert found["durability"].remedy == "set synchronous_commit = on for this database"


def test_a_redis_that_drops_keys_is_worth_a_note(durable: EmbeddedServers) -> None:
    with redis.Redis.from_url(durable.redis_url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    with Examined(durable.database_url, durable.redis_url) as found:
        assert found["eviction"].verdict is Verdict.NOTE
        assert "allkeys-lru" in found["eviction"].found
        assert found["eviction"].remedy == "set maxmemory-policy noeviction"


class Examined:
    """The findings on these servers, by check."""

    def __init__(self, database_url: str, redis_url: str, **settings: Any) -> None:
        self._runtime = Runtime(
            settings=Settings(database_url=database_url, redis_url=redis_url, **settings)
        )

    def __enter__(self) -> dict[str, Finding]:
        return {f.check: f for f in diagnose(self._runtime, application=False)}

    def __exit__(self, *_: object) -> None:
        self._runtime.close()


def test_servers_that_do_not_answer_are_told_without_their_passwords() -> None:
    with Examined(NOWHERE, "redis://:hidden@127.0.0.1:1/0") as found:
        assert list(found) == ["postgres", "redis"]
        assert {finding.verdict for finding in found.values()} == {Verdict.WRONG}
        assert found["postgres"].found == (
            "postgresql://agent:***@127.0.0.1:1/shop does not answer: Connection refused"
        )
        assert found["postgres"].remedy == "see SAGA_DATABASE_URL"
        assert found["redis"].found.startswith("redis://:***@127.0.0.1:1/0 does not answer: ")
        assert found["redis"].remedy == "see SAGA_REDIS_URL"


def test_embedded_servers_that_cannot_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise EmbeddedServersError("There is no room.")

    monkeypatch.setattr("boundary.runtime.servers.Servers._start", fail)
    runtime = Runtime(settings=Settings(database_url=None, redis_url=None))
    found = {f.check: f for f in diagnose(runtime, application=False)}
    assert found["postgres"].found == found["redis"].found == "There is no room"
    assert found["postgres"].remedy == "or set SAGA_DATABASE_URL"


def test_servers_that_are_too_old_are_told(
    findings: Callable[..., dict[str, Finding]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boundary.operations.doctor.servers._OLDEST_POSTGRES", 99)
    monkeypatch.setattr("boundary.operations.doctor.doorbells._OLDEST_REDIS", 99)
    found = findings()
    assert found["postgres"].remedy == found["redis"].remedy == "version 99 or newer is needed"


def test_a_server_that_forgets_in_a_crash_is_told(
    findings: Callable[..., dict[str, Finding]], engine: Engine
) -> None:
    with engine.connect() as connection:
        fsync = connection.execute(text("SHOW fsync")).scalar_one()
    verdict = findings()["durability"].verdict
    assert verdict is (Verdict.FINE if fsync == "on" else Verdict.WRONG)


@pytest.mark.parametrize(("hours", "words"), [(1, "3600.0 s ahead of"), (-1, "3600.0 s behind")])
def test_a_clock_that_is_wrong_is_told(
    findings: Callable[..., dict[str, Finding]],
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
    words: str,
) -> None:
    class Wrong(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return dt.datetime.now(tz) + dt.timedelta(hours=hours)

    assert findings()["clock"].verdict is Verdict.FINE
    monkeypatch.setattr("boundary.operations.doctor.servers.datetime", Wrong)
    clock = findings()["clock"]
    assert clock.verdict is Verdict.WRONG
    assert clock.found == f"this host is {words} Postgres"


def test_a_schema_of_another_release_is_told(
    findings: Callable[..., dict[str, Finding]], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "boundary.migration.revisions", lambda *_: ("0001", "0002", {"0001", "0002"})
    )
    assert findings()["schema"].found.endswith("is at 0001 and 0002 is newer")
    assert findings()["schema"].remedy == "run `saga migrate`"
    monkeypatch.undo()
    with engine.begin() as connection:
        connection.execute(text("UPDATE saga_alembic_version SET version_num = 'f00'"))
    found = findings()
    assert found["schema"].found.endswith("is at f00, which this release does not know")
    assert "stuck sagas" not in found


def test_a_quiet_system_has_nothing_that_stands_still(
    system: Runtime, findings: Callable[..., dict[str, Finding]]
) -> None:
    place(system, "A-1")
    found = findings()
    assert found["overdue deliveries"].found == "none, 1 pending"
    handle(system)
    found = findings()
    for check in ("stuck sagas", "parked deliveries", "overdue deliveries"):
        assert found[check] == Finding(check, Verdict.FINE, "none")
    for check in ("workers", "subscriptions", "versions"):
        assert found[check].verdict is Verdict.FINE
    assert not {"subscriptions", "versions"} & set(findings(application=False))


def test_stuck_sagas_and_parked_deliveries_are_told(
    system: Runtime, findings: Callable[..., dict[str, Finding]]
) -> None:
    for number in ("A-1", "A-2"):
        place(system, number, cents=13)
        handle(system)
    found = findings()
    stuck, parked = found["stuck sagas"], found["parked deliveries"]
    assert stuck.verdict is parked.verdict is Verdict.WRONG
    assert stuck.found.startswith("2 sagas are stuck, checkout:A-1 for ")
    assert stuck.remedy == "`saga show checkout:A-1` says why"
    assert parked.found == "2 at payments"
    assert parked.remedy is not None
    assert parked.remedy.endswith("shows why payments.charge failed")


def test_a_handler_that_runs_for_long_is_named_with_its_session(
    system: Runtime, engine: Engine
) -> None:
    place(system, "A-1")
    schema, none = system.settings.db_schema, dt.timedelta(0)
    with engine.connect() as worker, engine.connect() as reader, worker.begin():
        unit, read = SqlAlchemyUnitOfWork(worker), SqlAlchemyUnitOfWork(reader)
        [claimed], _ = Inbox("stock", schema, system._wiring.statements).claim(unit, 64)
        [(backend,)] = unit.run("SELECT pg_backend_pid()", {})
        [found] = running(read, schema, longer=none)
        assert (found.consumer, found.kind) == ("stock", claimed.message.kind)
        assert (found.message_id, found.deliveries) == (claimed.message.id, 1)
        assert (found.backend, found.session) == (backend, "idle in transaction")
        assert f"at stock for {duration(dt.timedelta(seconds=found.age))} by backend" in str(found)
        (own,) = running(read, schema, longer=none, saga_id=claimed.message.saga_id)
        assert own.message_id == found.message_id
        assert running(read, schema, longer=none, saga_id=uuid4()) == ()
        assert check_running(reader, schema).verdict is Verdict.FINE  # not for long yet
        told = check_running(reader, schema, longer=none)
        assert told.verdict is Verdict.NOTE
        assert f"by backend {backend}, idle in transaction" in told.found
    with engine.connect() as reader:
        assert running(SqlAlchemyUnitOfWork(reader), schema, longer=none) == ()


def test_what_gives_way_again_and_again_is_told(
    system: Runtime, findings: Callable[..., dict[str, Finding]], engine: Engine
) -> None:
    place(system, "A-1")
    with engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET yields = 6, last_error = 'DiskFull: no room'"))
    told = findings()["giving way"]
    assert told.verdict is Verdict.NOTE
    assert "at stock 6 times: DiskFull: no room" in told.found


def test_overdue_deliveries_are_told(
    system: Runtime, findings: Callable[..., dict[str, Finding]], engine: Engine
) -> None:
    place(system, "A-1")
    place(system, "A-2")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE inbox SET due_at = now() - interval '1 hour' WHERE state = 'pending'")
        )
    found = findings()
    assert found["overdue deliveries"].verdict is Verdict.WRONG
    assert found["overdue deliveries"].found == (
        "2 deliveries are overdue, the oldest at stock for 1 h"
    )
    assert found["workers"].verdict is Verdict.FINE


def test_an_inbox_that_no_worker_looks_after_is_told(
    system: Runtime,
    runtime: Callable[..., Runtime],
    findings: Callable[..., dict[str, Finding]],
    engine: Engine,
) -> None:
    place(system, "A-1")
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE inbox SET due_at = now() - interval '1 hour',"
                " ring_at = now() - interval '1 hour' WHERE state = 'pending'"
            )
        )
    workers = findings()["workers"]
    assert workers.found == "no worker serves stock"
    assert workers.remedy == "start one with `saga worker`"
    elsewhere = findings(of=runtime([], [shop.payments]))["workers"]
    assert elsewhere.remedy == (
        "stock is not part of this app: start the one that has it; if none has, "
        "`saga unsubscribe stock --reason WHY` ends it"
    )


def test_subscriptions_that_nobody_handles_here_are_told(
    findings: Callable[..., dict[str, Finding]], engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO subscription VALUES"
                " ('shop.moved', 'packing', now()), ('shop.moved', 'elsewhere', now())"
            )
        )
    found = findings()["subscriptions"]
    assert found.verdict is Verdict.WRONG
    assert found.found == "subscribed, and no handler here: shop.moved to packing"
    assert found.remedy is not None


def test_versions_that_the_app_does_not_know_are_told(
    system: Runtime, runtime: Callable[..., Runtime], findings: Callable[..., dict[str, Finding]]
) -> None:
    place(system, "A-1")
    newer: Saga[shop.Order] = Saga(
        name="checkout",
        version=2,
        data=shop.Order,
        steps=(Step("stock", lambda order: shop.Reserve(number=order.number)),),
    )
    found = findings(of=runtime([newer], shop.CONTEXTS))["versions"]
    assert found.verdict is Verdict.WRONG
    assert found.found == "this app does not know version 1 of checkout (1 unfinished)"
