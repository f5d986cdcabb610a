"""Which errors are the database's and which the handler's, as the drivers really raise them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import psycopg.errors
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from internals.database.errors import describe, is_conflict, is_transient, storable


def error_of(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whichever it is
        call()
    return raised.value


@pytest.fixture
def run(engine: Engine) -> Callable[[str], Exception]:
    """Run SQL through SQLAlchemy and return the error that it raises."""

    def run(sql: str) -> Exception:
        with engine.connect() as connection:
            return error_of(lambda: connection.execute(text(sql)))

    return run


@pytest.fixture
def fail_with(run: Any) -> Callable[[str], Exception]:
    """Have Postgres itself raise an error of this SQLSTATE."""
    return lambda state: run(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")


class TestTransient:
    @pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
    def test_a_transaction_that_lost_against_another(self, fail_with: Any, state: str) -> None:
        error = fail_with(state)
        assert is_transient(error)
        assert is_conflict(error)

    @pytest.mark.parametrize("state", ["53100", "53200", "53300", "57P03", "08006", "08000"])
    def test_a_server_in_trouble(self, fail_with: Any, state: str) -> None:
        error = fail_with(state)
        assert is_transient(error)
        assert not is_conflict(error)

    @pytest.mark.parametrize("state", ["25P03", "25P04", "57P05"])
    def test_a_process_that_stood_still(self, fail_with: Any, state: str) -> None:
        error = fail_with(state)
        assert is_transient(error)
        assert not is_conflict(error)

    @pytest.mark.parametrize("state", ["23505", "22012", "42P01", "P0001", "57014", "25P02"])
    def test_but_not_what_is_wrong_with_the_handler(self, fail_with: Any, state: str) -> None:
        error = fail_with(state)
        assert not is_transient(error)
        assert not is_conflict(error)

    def test_a_real_unique_violation_is_the_handler_s(self, store: Any, run: Any) -> None:
        error = run("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1), (1)")
        assert type(error).__name__ == "IntegrityError"
        assert not is_transient(error)

    def test_a_connection_that_was_ended(self, run: Any) -> None:
        error = run("SELECT pg_terminate_backend(pg_backend_pid())")
        assert is_transient(error)
        assert not is_conflict(error)

    def test_what_sqlalchemy_says_of_a_connection_after_that(self, engine: Engine) -> None:
        with engine.connect() as connection, connection.begin() as transaction:
            error_of(
                lambda: connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            )
            assert is_transient(error_of(lambda: connection.execute(text("SELECT 1"))))
            transaction.rollback()

    def test_a_server_that_is_not_there(self) -> None:
        engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=3")
        assert is_transient(error_of(engine.connect))
        engine.dispose()

    def test_an_exhausted_pool(self, connection_url: str) -> None:
        engine = create_engine(connection_url, pool_size=1, max_overflow=0, pool_timeout=0.01)
        with engine.connect():
            error = error_of(engine.connect)
        assert isinstance(error, PoolTimeoutError)
        assert is_transient(error)
        engine.dispose()

    def test_a_real_deadlock(self, store: Any) -> None:
        store.rows("INSERT INTO effect VALUES (1), (2) RETURNING n")
        met = threading.Barrier(2)

        def update(first: int, second: int) -> Exception | None:
            with store.engine.connect() as connection, connection.begin() as transaction:
                lock = text("SELECT n FROM effect WHERE n = :n FOR UPDATE")
                connection.execute(lock, {"n": first})
                met.wait(20)
                try:
                    connection.execute(lock, {"n": second})
                except Exception as error:
                    return error
                finally:
                    transaction.rollback()
            return None

        with ThreadPoolExecutor(2) as pool:
            errors = [e for e in pool.map(update, (1, 2), (2, 1)) if e is not None]
        assert len(errors) == 1
        assert is_transient(errors[0])
        assert is_conflict(errors[0])

    def test_a_real_serialization_failure(self, store: Any) -> None:
        store.rows("INSERT INTO effect VALUES (1) RETURNING n")
        strict = store.engine.execution_options(isolation_level="REPEATABLE READ")
        with strict.connect() as one, one.begin():
            one.execute(text("SELECT * FROM effect"))
            store.rows("UPDATE effect SET n = 2 RETURNING n")
            error = error_of(lambda: one.execute(text("UPDATE effect SET n = 3")))
        assert is_transient(error)
        assert is_conflict(error)

    def test_an_error_that_was_wrapped_is_seen_through(self) -> None:
        def wrap() -> None:
            try:
                raise psycopg.errors.DeadlockDetected
            except psycopg.Error as error:
                raise ValueError("the order could not be saved") from error

        assert is_conflict(error_of(wrap))

    @pytest.mark.parametrize("error", [ValueError(), TimeoutError(), ConnectionError(), OSError()])
    def test_errors_of_other_things_are_the_handler_s(self, error: Exception) -> None:
        assert not is_transient(error)


class TestText:
    def test_an_error_is_described_by_type_and_text(self) -> None:
        assert describe(ValueError("no such shelf")) == "ValueError: no such shelf"
        assert describe(ValueError()) == "ValueError"

    @pytest.mark.parametrize(
        ("text", "stored"),
        [
            ("plain", "plain"),
            ("äß漢\U0001f6eb", "äß漢\U0001f6eb"),
            ("a\x00b", "a\\0b"),
            ("a\ud800b", "a\\ud800b"),
        ],
    )
    def test_postgres_stores_what_storable_returns(
        self, outside: Any, text: str, stored: str
    ) -> None:
        assert storable(text) == stored
        assert outside.execute("SELECT %s::text", (storable(text),)).fetchone() == (stored,)

    def test_an_error_whose_words_fail_is_described_by_its_type(self) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        assert describe(Mute()) == "Mute"


@pytest.fixture(autouse=True)
def _no_pool_outlives_a_test(engine: Engine) -> Iterator[None]:
    yield
    engine.dispose()
