"""Connections: replaced when they are good for nothing, each process's own, and made once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import psycopg
import pytest
from dramatiq.brokers.stub import StubBroker
from pydantic import BaseModel
from sqlalchemy import create_engine, text

from boundary import Runtime, Settings
from internals import Context, Work
from internals.database.errors import is_transient
from saga import Command, DefinitionError, Saga, Step


class Trunk(BaseModel):
    n: int = 1


class Carry(Command, kind="porter.carry"):
    n: int


TRUNK = Saga("trunk", Trunk, (Step("carry", lambda trunk: Carry(n=trunk.n)),))


def porter() -> Context:
    context = Context("porter")

    @context.handles(Carry)
    def carry(command: Carry, work: Work) -> None:
        work.connection.execute(text("SELECT 1"))

    return context


@pytest.fixture
def made(settings: Settings) -> Iterator[Runtime]:
    """A runtime whose engine is its own."""
    runtime = Runtime(sagas=[TRUNK], contexts=[porter()], settings=settings)
    yield runtime
    runtime.close()


def start(runtime: Runtime, n: int = 1) -> None:
    with runtime.engine.begin() as connection:
        runtime.start(connection, TRUNK, Trunk(n=n))


class TestStale:
    """What an old server, or an old table, leaves in a pool."""

    def make_stale(self, runtime: Runtime, sql: str) -> list[Any]:
        """Run a statement in every session of the pool; returns them."""
        opened = [runtime.engine.connect() for _ in range(3)]
        sessions = [connection.connection.driver_connection for connection in opened]
        for connection in opened:
            connection.execute(text(sql))
            connection.commit()
            connection.close()
        return sessions

    def test_read_only_ones_are_replaced_after_a_failover(self, made: Runtime) -> None:
        start(made)
        old = self.make_stale(made, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        assert made.answer("porter") == 1
        with made.engine.connect() as connection:
            assert connection.connection.driver_connection not in old

    def test_a_host_gets_the_error_and_then_another_one(self, made: Runtime) -> None:
        self.make_stale(made, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        told = []
        for _ in range(4):
            try:
                start(made)
            except psycopg.errors.ReadOnlySqlTransaction as error:
                told.append(error)
        assert len(told) == 3

    def test_one_whose_plans_are_of_an_older_table_is_replaced(
        self, made: Runtime, settings: Settings
    ) -> None:
        def ask() -> None:
            with made.engine.begin() as connection:
                unit = made._wiring.database.joined(connection)
                unit.run(f"SELECT * FROM {settings.db_schema}.shelf", {})

        with made.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE {settings.db_schema}.shelf (n int)"))
        for _ in range(8):
            ask()
        owner = create_engine(made.engine.url)
        with owner.begin() as connection:
            connection.execute(text(f"ALTER TABLE {settings.db_schema}.shelf ADD m int"))
        owner.dispose()
        with pytest.raises(psycopg.errors.FeatureNotSupported) as raised:
            ask()
        assert is_transient(raised.value)
        ask()

    def test_dead_ones_in_the_pool_are_found_before_there_is_any_work(
        self, made: Runtime, outside: Any
    ) -> None:
        start(made)
        old = self.make_stale(made, "SELECT 1")
        pids = [session.pgconn.backend_pid for session in old]
        outside.execute(
            "SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS p (pid)", [pids]
        )
        assert made.answer("porter") == 1


def test_a_fork_begins_with_connections_of_its_own(made: Runtime, outside: Any) -> None:
    start(made)
    made._wiring.broker.ring(["porter"])
    children = [_forked(lambda: [start(made, n) for n in range(10)]) for _ in range(3)]  # type: ignore[func-returns-value]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
    for _ in range(11):
        start(made)
    [(count,)] = outside.execute("SELECT count(*) FROM saga").fetchall()
    assert count == 42


def _forked(call: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        # Two who read from one socket may both wait for ever.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    return child


def test_many_threads_that_use_it_first_get_one_of_everything(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def slow(*arguments: Any, **options: Any) -> Any:
        entered.wait(1.0)
        made.append(build(*arguments, **options))
        return made[-1]

    import boundary.runtime.wiring as module

    build, entered = module.make_engine, threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "make_engine", slow)
    runtime = Runtime(sagas=[TRUNK], contexts=[porter()], settings=settings)
    used: list[Any] = []
    threads = [
        threading.Thread(target=lambda: used.append((runtime.engine, runtime._wiring.consumers)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    entered.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(engine is made[0] and found is runtime._wiring.consumers for engine, found in used)
    runtime.close()


class TestOneBroker:
    def test_a_second_runtime_on_it_is_refused(self, settings: Settings) -> None:
        broker = StubBroker(middleware=[])
        first, second = (
            Runtime(contexts=[Context(name)], settings=settings, broker=broker)
            for name in ("porter", "waiter")
        )
        assert first.worker() is broker
        with pytest.raises(DefinitionError, match="doorbells of another Runtime already"):
            second.worker()

    def test_the_same_one_may_ask_twice(self, settings: Settings) -> None:
        broker: dramatiq.Broker = StubBroker(middleware=[])
        runtime = Runtime(contexts=[porter()], settings=settings, broker=broker)
        assert runtime.worker() is runtime.worker()


def test_its_sessions_say_whose_they_are(made: Runtime, outside: Any) -> None:
    with made.engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        [(name,)] = outside.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid = %s", [pid]
        ).fetchall()
    assert name.startswith("saga ")
    assert name.endswith(f" {os.getpid()}")


def test_its_transactions_are_bounded_and_leave_nothing_on_the_connection(made: Runtime) -> None:
    names = ("idle_in_transaction_session_timeout", "lock_timeout")

    def settings_of(connection: Any) -> list[str]:
        return [
            connection.execute(text(f"SELECT current_setting('{name}')")).scalar_one()
            for name in names
        ]

    opened = made._wiring.database.open()
    assert settings_of(opened.unit.connection) == ["1min", "61s"]
    opened.commit()
    with made.engine.connect() as connection:
        assert settings_of(connection) == ["0", "0"]


def test_what_a_role_has_for_itself_is_not_made_longer(settings: Settings) -> None:
    assert settings.database_url is not None
    asked = "options=-c%20lock_timeout%3D5s%20-c%20idle_in_transaction_session_timeout%3D7s"
    url = f"{settings.database_url.get_secret_value()}?{asked}"
    runtime = Runtime(settings=Settings(database_url=url, db_schema=settings.db_schema))
    for _ in range(2):
        opened = runtime._wiring.database.open()
        waits = opened.unit.run(
            "SELECT current_setting('lock_timeout'), "
            "current_setting('idle_in_transaction_session_timeout')",
            {},
        )
        opened.roll_back()
        assert waits == [("5s", "7s")]
    runtime.engine.dispose()
