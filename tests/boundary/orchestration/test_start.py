"""Starting sagas: in the caller's transaction, once for each business key, all of them or none."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from pydantic import BaseModel
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from boundary import Runtime
from boundary.operations import show_saga
from boundary.rendering import render_trace
from boundary.settings import Settings
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.trace import trace, trace_message
from saga import (
    Command,
    DefinitionError,
    Event,
    KeyConflict,
    NoTransaction,
    PayloadError,
    Rejected,
    Saga,
    SagaError,
    Step,
)


class Loan(BaseModel):
    book: str = "Emma"
    reader: str = "Ann"
    days: float = 14
    lend: bool = True


class Lend(Command, kind="desk.lend"):
    book: str


def lend(loan: Loan) -> Lend | None:
    return Lend(book=loan.book) if loan.lend else None


LOAN = Saga(name="loan", data=Loan, key=lambda loan: loan.book, steps=(Step("lend", lend),))
KEYLESS = Saga(name="keyless", data=Loan, steps=(Step("lend", lend),))

EMMA = Loan(book="Emma")
OTHER_EMMA = Loan(book="Emma", reader="Bob")
DUNE = Loan(book="Dune")


@pytest.fixture
def library(runtime: Callable[..., Runtime]) -> Runtime:
    return runtime([LOAN, KEYLESS])


@pytest.fixture
def start(library: Runtime) -> Callable[..., UUID]:
    """Start a saga in a transaction of its own."""

    def start(data: Loan, saga: Saga[Loan] = LOAN, **options: Any) -> UUID:
        with library.engine.begin() as connection:
            return library.start(connection, saga, data, **options)

    return start


@pytest.fixture
def count(outside: psycopg.Connection[Any]) -> Callable[[], tuple[int, int, int]]:
    """The committed sagas, messages and deliveries."""

    def count() -> tuple[int, int, int]:
        tables = ("saga", "outbox", "inbox")
        rows = [outside.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
        return tuple(row[0] for row in rows if row)

    return count


class Asked(Event, kind="catalogue.asked"):
    book: str
    lend: bool = True


@pytest.fixture
def counter(runtime: Callable[..., Runtime]) -> Runtime:
    """A library whose counter lends what is asked for."""
    counter = Context("counter")

    @counter.reacts_to(Asked)
    def begin(event: Asked, work: Work) -> None:
        made.start(work.connection, LOAN, Loan(book=event.book))
        if not event.lend:
            raise Rejected("not today")

    made = runtime([LOAN], [counter])
    made.subscribe()
    return made


def asked(library: Runtime, *events: Asked) -> list[UUID]:
    """Publish, and let the counter handle it."""
    with library.engine.begin() as connection:
        ids = [library.publish(connection, event) for event in events]
    library.answer("counter")
    return ids


class TestByAHandler:
    """An event may begin a saga: a handler at the boundary starts it."""

    def test_the_saga_hangs_below_the_event(
        self, counter: Runtime, outside: Any, schema: str
    ) -> None:
        [event] = asked(counter, Asked(book="Emma"))
        with counter.engine.connect() as connection:
            found = trace_message(SqlAlchemyUnitOfWork(connection), schema, event)
            [(saga,)] = outside.execute("SELECT id FROM saga").fetchall()
            of_saga = trace(SqlAlchemyUnitOfWork(connection), schema, saga)
        kinds = ["catalogue.asked", "saga.started", "desk.lend"]
        assert [(depth, node.kind) for depth, node in found.walk()] == list(enumerate(kinds))
        [start] = of_saga.roots
        assert (start.sender, start.causation_id) == ("counter", event)
        assert f"saga.started by counter, on message {event}" in str(render_trace(of_saga))

    def test_the_trace_of_a_saga_shows_those_that_its_handlers_began(
        self, runtime: Callable[..., Runtime], schema: str
    ) -> None:
        desk = Context("desk")

        @desk.handles(Lend)
        def lend(command: Lend, work: Work) -> None:
            if command.book == "Emma":
                made.start(work.connection, LOAN, DUNE)

        made = runtime([LOAN], [desk])
        with made.engine.begin() as connection:
            first = made.start(connection, LOAN, EMMA)
        made.answer("desk")
        with made.engine.connect() as connection:
            found = trace(SqlAlchemyUnitOfWork(connection), schema, first)
            detail = show_saga(SqlAlchemyUnitOfWork(connection), schema, str(first))
        kinds = ["saga.started", "desk.lend", "saga.started"]
        walked = [node for _, node in found.walk() if node.kind in kinds]
        assert [node.kind for node in walked] == kinds
        assert f"saga.started by desk, on message {walked[1].id}: saga {walked[2].saga_id}" in str(
            render_trace(found, detail)
        )

    def test_none_begins_where_the_handler_says_no(self, counter: Runtime, count: Any) -> None:
        asked(counter, Asked(book="Emma", lend=False))
        assert count() == (0, 1, 1)  # the event alone

    def test_one_key_is_one_saga_though_it_be_asked_for_twice(
        self, counter: Runtime, count: Any
    ) -> None:
        asked(counter, Asked(book="Emma"), Asked(book="Emma"))
        sagas, _, _ = count()
        assert sagas == 1

    def test_outside_of_it_nothing_is_the_cause(self, counter: Runtime, outside: Any) -> None:
        asked(counter, Asked(book="Emma"))
        with counter.engine.begin() as connection:
            counter.start(connection, LOAN, DUNE)
        causes = outside.execute(
            "SELECT causation_id FROM outbox WHERE kind = 'saga.started' ORDER BY seq"
        ).fetchall()
        assert [cause is None for (cause,) in causes] == [False, True]


NOTHING = (0, 0, 0)
ONE = (1, 2, 2)  # the start and the first command, each with a delivery


class TestStart:
    def test_the_saga_its_start_and_its_first_command_are_one_transaction(
        self, library: Runtime, outside: Any, count: Any
    ) -> None:
        with library.engine.begin() as connection:
            id = library.start(connection, LOAN, EMMA)
            assert count() == NOTHING
        assert count() == ONE
        saga = outside.execute(
            "SELECT name, version, key, status, direction, data, consumed, reason FROM saga "
            "WHERE id = %s",
            (id,),
        ).fetchone()
        assert saga == ("loan", 1, "Emma", "running", "forward", EMMA.model_dump(), 1, None)
        rows = outside.execute(
            "SELECT o.kind, i.consumer, i.state, i.position, o.saga_id FROM outbox o "
            "JOIN inbox i ON i.message_id = o.id ORDER BY o.seq"
        ).fetchall()
        assert rows == [
            ("saga.started", "saga.loan", "done", 1, id),
            ("desk.lend", "desk", "pending", None, id),
        ]

    def test_it_waits_in_the_inbox_of_a_context_that_never_booted(
        self, start: Any, runtime: Any, outside: Any
    ) -> None:
        start(EMMA)
        lent: list[str] = []
        desk = Context("desk")
        desk.handles(Lend)(lambda command, _: lent.append(command.book))
        later = runtime([LOAN], [desk])
        later.answer("desk")
        later.answer("saga.loan")
        assert lent == ["Emma"]
        assert outside.execute("SELECT status FROM saga").fetchall() == [("completed",)]

    def test_a_saga_that_has_nothing_to_do_is_over_at_once(self, start: Any, outside: Any) -> None:
        start(Loan(lend=False))
        row = outside.execute("SELECT status, finished_at IS NULL FROM saga").fetchone()
        assert row == ("completed", False)

    def test_it_may_be_started_by_a_handler(
        self, runtime: Any, outside: Any, count: Any, start: Any
    ) -> None:
        starts = iter([True])

        def handle(_: Lend, work: Work) -> None:
            if next(starts, False):
                library.start(work.connection, LOAN, DUNE)
                raise ValueError

        desk = Context("desk")
        desk.handles(Lend)(handle)
        library = runtime([LOAN], [desk])
        start(EMMA)
        library.answer("desk")
        assert count() == ONE  # what a failing handler started is undone with it

    @pytest.mark.parametrize("data", [{"book": "Emma"}, None, Lend(book="Emma")])
    def test_data_of_another_kind_is_refused(self, start: Any, data: Any, count: Any) -> None:
        with pytest.raises(TypeError, match="loan takes a Loan"):
            start(data, key="x")
        assert count() == NOTHING

    def test_outside_a_transaction_it_is_refused(self, library: Runtime, count: Any) -> None:
        with library.engine.connect() as connection, pytest.raises(NoTransaction):
            library.start(connection, LOAN, EMMA)
        assert count() == NOTHING

    def test_a_function_of_the_definition_that_raises_starts_nothing(
        self, library: Runtime, count: Any
    ) -> None:
        def act(loan: Loan) -> Lend:
            raise ZeroDivisionError

        broken = Saga(name="broken", data=Loan, steps=(Step("lend", act),))
        with library.engine.begin() as connection:
            with pytest.raises(ZeroDivisionError):
                library.start(connection, broken, EMMA)
            library.start(connection, LOAN, EMMA)  # the transaction is still good
        assert count() == ONE


class TestRollback:
    def test_a_rollback_leaves_no_ghost(self, library: Runtime, count: Any) -> None:
        with library.engine.connect() as connection, connection.begin() as transaction:
            library.start(connection, LOAN, EMMA)
            transaction.rollback()
        assert count() == NOTHING

    def test_nor_does_the_rollback_of_a_savepoint(
        self, library: Runtime, outside: Any, count: Any
    ) -> None:
        with Session(library.engine) as session, session.begin():
            with session.begin_nested() as savepoint:
                library.start(session, LOAN, EMMA)
                savepoint.rollback()
            kept = library.start(session, LOAN, DUNE)
        assert count() == ONE
        assert outside.execute("SELECT id FROM saga").fetchall() == [(kept,)]

    def test_the_key_is_free_again(self, library: Runtime, start: Any, count: Any) -> None:
        with library.engine.connect() as connection, connection.begin() as transaction:
            gone = library.start(connection, LOAN, EMMA)
            transaction.rollback()
        assert start(OTHER_EMMA) != gone
        assert count() == ONE

    def test_a_conflict_leaves_the_caller_s_own_work_alone(
        self, library: Runtime, start: Any, outside: Any, count: Any
    ) -> None:
        start(EMMA)
        outside.execute("CREATE TABLE shelf (book text)")
        with library.engine.begin() as connection:
            connection.execute(text("INSERT INTO shelf VALUES ('Emma')"))
            with pytest.raises(KeyConflict):
                library.start_many(connection, LOAN, [DUNE, OTHER_EMMA])
            connection.execute(text("INSERT INTO shelf VALUES ('Dune')"))
        assert len(outside.execute("SELECT * FROM shelf").fetchall()) == 2
        assert count() == ONE


class TestDoorbells:
    def test_they_ring_after_the_commit_and_not_before(
        self, library: Runtime, redis_client: redis.Redis, settings: Settings
    ) -> None:
        key = f"{settings.namespace}:doorbell:desk"
        with library.engine.begin() as connection:
            library.start(connection, LOAN, EMMA)
            assert redis_client.llen(key) == 0
        assert redis_client.llen(key) == 1

    def test_without_redis_the_saga_is_started_all_the_same(
        self, runtime: Any, settings: Settings, count: Any
    ) -> None:
        nowhere = Settings(redis_url="redis://127.0.0.1:1/0").redis_url
        library = runtime([LOAN], redis_url=nowhere)
        with library.engine.begin() as connection:
            library.start(connection, LOAN, EMMA)
        assert count() == ONE


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
            notes: dict[str, int] = {}

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


class TestData:
    @pytest.mark.parametrize(
        "data",
        [
            Loan(reader="a\x00b"),
            Loan.model_construct(book="Emma", reader="\ud800", days=1, lend=True),
            Loan(days=float("nan")),
            Loan(days=float("inf")),
            Loan(reader="x" * 300_000),
            Loan.model_construct(book="Emma", reader="Ann", days="soon", lend=True),
        ],
        ids=["NUL", "surrogate", "NaN", "infinity", "size", "type"],
    )
    @pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
    def test_what_would_not_come_back_equal_is_refused_at_the_start(
        self, start: Any, data: Loan, count: Any
    ) -> None:
        with pytest.raises(PayloadError):
            start(data)
        assert count() == NOTHING

    def test_a_first_command_that_cannot_be_stored_is_refused(
        self, library: Runtime, count: Any
    ) -> None:
        large = Saga(
            name="large",
            data=Loan,
            steps=(Step("lend", lambda loan: Lend(book=loan.book * 300_000)),),
        )
        with library.engine.begin() as connection, pytest.raises(PayloadError, match="limit"):
            library.start(connection, large, EMMA)
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
                return library.start_many(connection, LOAN, items)

        with ThreadPoolExecutor(2) as pool:
            for part in range(5):  # whether they meet in the middle is up to chance
                books = [Loan(book=f"{part}-{n:04}") for n in range(800)]
                forward, backward = pool.map(start, [books, books[::-1]])
                assert forward == backward[::-1]
        assert count() == (4000, 8000, 8000)


def test_a_connection_of_the_host_s_own_engine_will_do(
    library: Runtime, engine: Engine, count: Any
) -> None:
    connection: Connection
    with engine.begin() as connection:
        library.start(connection, LOAN, EMMA)
    assert count() == ONE
