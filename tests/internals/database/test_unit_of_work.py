"""Joining a caller's transaction: refused where nothing would commit with it, never committed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from internals.database.lock_waits import bounded
from internals.database.unit_of_work import SqlAlchemyUnitOfWork, joined
from saga import NoTransaction, StillLocked


@pytest.fixture
def looks(store: Any) -> tuple[Callable[[], None], list[list[int]]]:
    """A call that notes what another connection sees at that moment."""
    seen: list[list[int]] = []
    return lambda: seen.append(store.effects()), seen


def note(connection: Connection, n: int) -> None:
    connection.execute(text("INSERT INTO effect VALUES (:n)"), {"n": n})


class TestJoined:
    def test_a_transaction_and_a_session_are_joined(self, engine: Engine) -> None:
        with engine.begin() as connection:
            assert joined(connection).connection is connection
        with Session(engine) as session:
            unit = joined(session)
            assert unit.connection is session.connection()

    def test_what_it_writes_is_the_caller_s_to_commit(self, store: Any) -> None:
        with store.engine.connect() as connection:
            with connection.begin() as transaction:
                joined(connection).run("INSERT INTO effect VALUES (%(n)s)", {"n": 1})
                transaction.rollback()
            with connection.begin():
                joined(connection).run("INSERT INTO effect VALUES (%(n)s)", {"n": 2})
                assert store.effects() == []
        assert store.effects() == [2]

    def test_without_a_transaction_it_is_refused(self, engine: Engine) -> None:
        with (
            engine.connect() as connection,
            pytest.raises(NoTransaction, match=r"with engine\.begin\(\) as connection"),
        ):
            joined(connection)

    def test_the_session_within_an_asynchronous_one_is_refused(self, connection_url: str) -> None:
        async def join() -> None:
            engine = create_async_engine(connection_url)
            try:
                async with AsyncSession(engine) as session:
                    await session.run_sync(joined)
            finally:
                await engine.dispose()

        with pytest.raises(NoTransaction, match="AsyncSession"):
            asyncio.run(join())

    def test_after_the_transaction_it_is_refused(self, engine: Engine) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            connection.commit()
            with pytest.raises(NoTransaction, match="no transaction is open"):
                joined(connection)

    @pytest.mark.parametrize("make", [Connection, Session], ids=["connection", "session"])
    def test_autocommit_is_refused(self, engine: Engine, make: Any) -> None:
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        handle = autocommit.connect() if make is Connection else Session(autocommit)
        with handle:
            handle.begin()
            with pytest.raises(NoTransaction, match="autocommit mode"):
                joined(handle)

    def test_another_database_is_refused(self) -> None:
        engine = create_engine("sqlite://")
        with (
            engine.begin() as connection,
            pytest.raises(NoTransaction, match="this connection is to sqlite through pysqlite"),
        ):
            joined(connection)
        engine.dispose()

    def test_anything_else_is_refused(self, engine: Engine, outside: Any) -> None:
        handles: tuple[Any, ...] = (outside, engine, None)
        for handle in handles:
            with pytest.raises(NoTransaction, match="give the SQLAlchemy Session or Connection"):
                joined(handle)

    def test_a_refusal_leaves_no_transaction_behind(self, engine: Engine, outside: Any) -> None:
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            pid = driver.info.backend_pid
            with pytest.raises(NoTransaction):
                joined(connection)
            states = outside.execute(
                "SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)
            ).fetchall()
            assert states == [("idle",)]


class TestSavepoint:
    def test_what_is_done_inside_is_undone_if_it_raises(self, store: Any) -> None:
        with store.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            note(connection, 1)
            with suppress(ZeroDivisionError), unit.savepoint():
                note(connection, 2)
                raise ZeroDivisionError
            with unit.savepoint():
                note(connection, 3)
        assert store.effects() == [1, 3]

    def test_an_error_of_the_database_inside_leaves_the_transaction_usable(
        self, store: Any
    ) -> None:
        with store.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            with pytest.raises(Exception, match="division by zero"), unit.savepoint():
                connection.execute(text("SELECT 1/0"))
            note(connection, 1)
        assert store.effects() == [1]

    def test_they_nest(self, store: Any) -> None:
        with store.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            with unit.savepoint():
                note(connection, 1)
                with suppress(ZeroDivisionError), unit.savepoint():
                    note(connection, 2)
                    raise ZeroDivisionError
                note(connection, 3)
        assert store.effects() == [1, 3]

    def test_one_of_the_caller_s_takes_back_what_was_joined_in_it(self, store: Any) -> None:
        with Session(store.engine) as session, session.begin():
            note(session.connection(), 1)
            with session.begin_nested() as nested:
                joined(session).run("INSERT INTO effect VALUES (2)", {})
                nested.rollback()
        assert store.effects() == [1]


class TestOnCommit:
    """A doorbell that rings before the commit is a doorbell lost."""

    def test_it_is_called_when_everyone_can_see_the_work(self, store: Any, looks: Any) -> None:
        call, seen = looks
        with store.engine.begin() as connection:
            note(connection, 1)
            joined(connection).on_commit(call)
            assert seen == []
        assert seen == [[1]]

    def test_also_for_a_session(self, store: Any, looks: Any) -> None:
        call, seen = looks
        with Session(store.engine) as session:
            note(session.connection(), 1)
            joined(session).on_commit(call)
            session.flush()
            assert seen == []
            session.commit()
            assert seen == [[1]]

    def test_also_while_the_connection_is_kept(self, store: Any, looks: Any) -> None:
        call, seen = looks
        with store.engine.connect() as connection:
            note(connection, 1)
            joined(connection).on_commit(call)
            connection.commit()
            assert seen == [[1]]
            note(connection, 2)
            connection.commit()
            assert seen == [[1]]

    def test_also_for_a_session_that_keeps_its_connection(self, store: Any, looks: Any) -> None:
        call, seen = looks
        with store.engine.connect() as connection, Session(connection) as session:
            note(session.connection(), 1)
            joined(session).on_commit(call)
            session.commit()
            assert seen == [[1]]

    def test_also_for_an_engine_without_a_pool(
        self, store: Any, looks: Any, connection_url: str
    ) -> None:
        call, seen = looks
        engine = create_engine(connection_url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(f"INSERT INTO {store.schema}.effect VALUES (1)"))
            joined(connection).on_commit(call)
            assert seen == []
        assert seen == [[1]]

    def test_each_call_is_made_once(self, store: Any, looks: Any) -> None:
        call, seen = looks
        for n in range(3):
            with store.engine.begin() as connection:
                note(connection, n)
                joined(connection).on_commit(call)
                joined(connection).on_commit(call)
        assert seen == [[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]]

    def test_one_that_fails_costs_neither_the_connection_nor_the_other_calls(
        self, store: Any, looks: Any
    ) -> None:
        call, seen = looks

        def fail() -> None:
            raise ZeroDivisionError

        for n in range(20):  # more than the pool has connections
            with store.engine.begin() as connection:
                note(connection, n)
                joined(connection).on_commit(fail)
                joined(connection).on_commit(call)
        assert seen[-1] == list(range(20))
        assert len(seen) == 20
        assert store.engine.pool.checkedout() == 0


class TestWaitingAtMost:
    """A bound on locks, in a transaction that is the host's."""

    @staticmethod
    def wait_of(connection: Connection) -> Any:
        return connection.execute(text("SELECT current_setting('lock_timeout')")).scalar_one()

    @staticmethod
    def wait_in_vain(connection: Connection) -> None:
        unit = joined(connection)
        with bounded(unit, 0.05, "the vault"):
            note(connection, 2)
            unit.run("SELECT pg_advisory_xact_lock(7)", {})

    @pytest.mark.parametrize("its_own", ["0", "1min", "3s"])
    def test_it_is_as_before_afterwards(self, engine: Engine, its_own: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{its_own}'"))
            with joined(connection).waiting_at_most(30):
                assert self.wait_of(connection) == {"3s": "3s"}.get(its_own, "30s")
            assert self.wait_of(connection) == its_own
        with engine.begin() as connection:
            assert self.wait_of(connection) == "0"

    def test_it_is_as_before_where_the_transaction_has_not_begun(self, engine: Engine) -> None:
        with engine.begin() as connection:
            with joined(connection).waiting_at_most(30):
                assert self.wait_of(connection) == "30s"
            assert self.wait_of(connection) == "0"

    def test_after_a_wait_in_vain_the_transaction_goes_on(self, store: Any) -> None:
        with store.engine.begin() as holder, store.engine.begin() as connection:
            holder.execute(text("SELECT pg_advisory_xact_lock(7)"))
            note(connection, 1)
            with pytest.raises(StillLocked, match="the vault is locked by another transaction"):
                self.wait_in_vain(connection)
            assert self.wait_of(connection) == "0"
            note(connection, 3)
        assert store.effects() == [1, 3]
