"""Starting sagas by business key: once for each, all of them or none, and at once."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from pydantic import Field
from sqlalchemy import Engine

from boundary import Runtime
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga import DefinitionError, KeyConflict, PayloadError, Saga, SagaError
from tests.boundary.worlds.lending import DUNE, EMMA, KEYLESS, LOAN, NOTHING, ONE, OTHER_EMMA, Loan


class TestKey:
    def test_the_same_key_with_the_same_data_is_the_same_saga(self, start: Any, count: Any) -> None:
        assert start(EMMA) == start(Loan(book="Emma")) == start(EMMA, key="Emma")
        assert count() == ONE

    def test_with_other_data_it_is_a_conflict(self, start: Any, count: Any) -> None:
        id = start(EMMA)
        with pytest.raises(KeyConflict, match=rf"loan 'Emma' was started before .* saga {id}"):
            start(OTHER_EMMA)
        assert count() == ONE

    def test_data_that_is_the_same_to_the_class_of_today_is_no_conflict(
        self, library: Runtime, outside: Any
    ) -> None:
        class Now(Loan):
            tags: frozenset[str] = frozenset()
            coupon: str | None = None
            notes: dict[str, int] = Field(default_factory=dict)

        now = Saga(name="loan", data=Now, key=lambda loan: loan.book, steps=LOAN.steps)
        tags = frozenset({"red", "green", "blue", "white"})

        def start(data: Loan, saga: Saga[Any] = now) -> UUID:
            with library.engine.begin() as connection:
                return library.start(connection, saga, data)

        # Of a release that had fewer fields, and to one that has fewer.
        before = start(EMMA, LOAN)
        assert start(Now(book="Emma")) == before
        newer = start(Now(book="Dune", tags=tags, notes={"bb": 1, "a": 2}))
        assert start(Now(book="Dune", tags=tags, notes={"a": 2, "bb": 1})) == newer
        assert start(DUNE, LOAN) == newer
        # As another process may have written it, and a former release did.
        written = '["white", "red", "blue", "green"]'
        outside.execute(
            "UPDATE outbox SET payload = jsonb_set(payload, '{tags}', %s::jsonb) "
            "WHERE saga_id = %s AND kind = 'saga.started'",
            (written, newer),
        )
        assert start(Now(book="Dune", tags=tags, notes={"a": 2, "bb": 1})) == newer

        with pytest.raises(KeyConflict):
            start(Now(book="Emma", coupon="half"))
        with pytest.raises(KeyConflict):
            start(Now(book="Dune", tags=tags - {"red"}, notes={"a": 2, "bb": 1}))

    def test_a_class_that_cannot_read_what_it_began_with_meets_a_conflict(
        self, start: Any, library: Runtime
    ) -> None:
        class Now(Loan):
            shelf: str

        now = Saga(name="loan", data=Now, key=lambda loan: loan.book, steps=LOAN.steps)
        start(EMMA)
        with library.engine.begin() as connection, pytest.raises(KeyConflict):
            library.start(connection, now, Now(book="Emma", shelf="A"))

    def test_what_a_saga_has_become_does_not_matter_only_what_it_began_with(
        self, start: Any, outside: Any
    ) -> None:
        id = start(EMMA)
        outside.execute("UPDATE saga SET data = '{}', status = 'completed'")
        assert start(EMMA) == id

    def test_keys_belong_to_a_saga_s_name(self, start: Any) -> None:
        assert start(EMMA, key="1") != start(EMMA, saga=KEYLESS, key="1")

    def test_a_given_key_goes_before_the_definition_s(self, start: Any) -> None:
        assert start(EMMA, key="loan 1") != start(EMMA, key="loan 2") != start(EMMA)

    def test_without_a_key_each_start_is_a_saga(self, start: Any, count: Any) -> None:
        assert start(EMMA, saga=KEYLESS) != start(EMMA, saga=KEYLESS)
        assert count() == (2, 4, 4)

    @pytest.mark.parametrize("key", ["", "x" * 201, 7, b"Emma"])
    def test_it_is_a_text_of_1_to_200_characters(self, start: Any, key: Any, count: Any) -> None:
        with pytest.raises(DefinitionError, match="a text of 1 to 200 characters"):
            start(EMMA, key=key)
        assert count() == NOTHING

    @pytest.mark.parametrize("key", ["a\x00b", "\ud800"], ids=["NUL", "surrogate"])
    def test_one_that_postgres_cannot_hold_is_refused_in_words(
        self, start: Any, key: str, count: Any
    ) -> None:
        with pytest.raises(SagaError):
            start(EMMA, key=key)
        assert count() == NOTHING

    @pytest.mark.parametrize("key", ["x" * 200, "漢" * 200, "'; DROP TABLE saga; --", "%s", " "])
    def test_any_other_text_will_do(self, start: Any, key: str) -> None:
        assert start(EMMA, key=key) == start(EMMA, key=key)


class TestMany:
    def test_ids_come_in_the_order_of_the_items(
        self, library: Runtime, start: Any, outside: Any
    ) -> None:
        old = start(DUNE)
        books = ["Emma", "Dune", "Ulysses", "Emma", "Watt"]
        with library.engine.begin() as connection:
            ids = library.start_many(connection, LOAN, [Loan(book=book) for book in books])
        stored = dict(outside.execute("SELECT key, id FROM saga").fetchall())
        assert ids == [stored[book] for book in books]
        assert ids[1] == old
        assert len(stored) == 4

    def test_one_key_twice_in_one_call_is_one_saga(self, library: Runtime, count: Any) -> None:
        with library.engine.begin() as connection:
            first, second = library.start_many(connection, LOAN, [EMMA, Loan(book="Emma")])
        assert first == second
        assert count() == ONE

    def test_with_other_data_within_one_call_nothing_is_written(
        self, library: Runtime, count: Any
    ) -> None:
        with library.engine.begin() as connection, pytest.raises(KeyConflict):
            library.start_many(connection, LOAN, [DUNE, EMMA, OTHER_EMMA])
        assert count() == NOTHING

    @pytest.mark.parametrize("items", [[EMMA, OTHER_EMMA], [OTHER_EMMA, EMMA]])
    def test_an_old_key_with_the_right_and_with_other_data_is_a_conflict(
        self, library: Runtime, start: Any, items: list[Loan], count: Any
    ) -> None:
        start(EMMA)
        with library.engine.begin() as connection, pytest.raises(KeyConflict):
            library.start_many(connection, LOAN, items)
        assert count() == ONE

    def test_keys_may_be_given_for_some(self, library: Runtime, outside: Any) -> None:
        with library.engine.begin() as connection:
            library.start_many(connection, LOAN, [EMMA, DUNE], keys=["one", None])
            with pytest.raises(ValueError, match="zip"):
                library.start_many(connection, LOAN, [EMMA, DUNE], keys=["one"])
        keys = {key for (key,) in outside.execute("SELECT key FROM saga").fetchall()}
        assert keys == {"one", "Dune"}

    def test_none_at_all_is_no_trouble(self, library: Runtime, count: Any) -> None:
        with library.engine.begin() as connection:
            assert library.start_many(connection, LOAN, []) == []
        assert count() == NOTHING

    def test_many_cost_as_many_statements_as_one(
        self, library: Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements: list[str] = []
        run = SqlAlchemyUnitOfWork.run

        def counted(self: Any, statement: str, parameters: Any) -> Any:
            statements.append(statement)
            return run(self, statement, parameters)

        monkeypatch.setattr(SqlAlchemyUnitOfWork, "run", counted)
        with library.engine.begin() as connection:
            library.start(connection, LOAN, EMMA)
            one = len(statements)
            library.start_many(connection, LOAN, [Loan(book=str(n)) for n in range(500)])
        assert len(statements) == 2 * one

    def test_all_or_none_where_one_cannot_be_stored(self, library: Runtime, count: Any) -> None:
        with library.engine.begin() as connection, pytest.raises(PayloadError):
            library.start_many(connection, LOAN, [EMMA, Loan(book="Watt", reader="a\x00b"), DUNE])
        assert count() == NOTHING


class TestAtOnce:
    """Two web requests with one key, as they meet in Postgres."""

    @pytest.fixture
    def second(self, library: Runtime, outside: Any, eventually: Any) -> Any:
        """Start a saga in another thread and wait until it waits for the first one's key."""
        with ThreadPoolExecutor(1) as pool:

            def begin(data: Loan) -> "Future[UUID]":
                def start() -> UUID:
                    with library.engine.begin() as connection:
                        return library.start(connection, LOAN, data)

                run = pool.submit(start)
                eventually(
                    lambda: outside.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                        "AND query LIKE %s",
                        (f"%INSERT INTO {library.settings.db_schema}.saga%",),
                    ).fetchone(),
                    what="the second to wait for the first",
                )
                return run

            yield begin

    @pytest.fixture
    def first(self, library: Runtime) -> Any:
        with library.engine.connect() as connection, connection.begin() as transaction:
            yield library.start(connection, LOAN, EMMA), transaction

    def test_the_second_gets_the_first_one_s_saga(
        self, first: Any, second: Any, count: Any
    ) -> None:
        id, transaction = first
        waiting = second(EMMA)
        transaction.commit()
        assert waiting.result(20) == id
        assert count() == ONE

    def test_with_other_data_it_gets_a_conflict(self, first: Any, second: Any, count: Any) -> None:
        _, transaction = first
        waiting = second(OTHER_EMMA)
        transaction.commit()
        with pytest.raises(KeyConflict):
            waiting.result(20)
        assert count() == ONE

    def test_if_the_first_is_rolled_back_the_second_has_the_key(
        self, first: Any, second: Any, count: Any
    ) -> None:
        id, transaction = first
        waiting = second(OTHER_EMMA)
        transaction.rollback()
        assert waiting.result(20) != id
        assert count() == ONE

    def test_twenty_at_once_are_one_saga(self, library: Runtime, count: Any) -> None:
        met = threading.Barrier(10)

        def start(_: int) -> UUID:
            met.wait(20)
            with library.engine.begin() as connection:
                return library.start(connection, LOAN, EMMA)

        with ThreadPoolExecutor(10) as pool:
            assert len(set(pool.map(start, range(20)))) == 1
        assert count() == ONE

    def test_the_same_many_in_opposite_orders_do_not_deadlock(
        self, library: Runtime, engine: Engine, count: Any
    ) -> None:
        met = threading.Barrier(2)

        def start(items: list[Loan]) -> list[UUID]:
            met.wait(20)
            with library.engine.begin() as connection:
                return list(library.start_many(connection, LOAN, items))

        with ThreadPoolExecutor(2) as pool:
            for part in range(5):  # whether they meet in the middle is up to chance
                books = [Loan(book=f"{part}-{n:04}") for n in range(800)]
                forward, backward = pool.map(start, [books, books[::-1]])
                assert forward == backward[::-1]
        assert count() == (4000, 8000, 8000)
