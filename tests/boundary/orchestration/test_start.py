"""Starting sagas: in the caller's transaction, once for each business key, all of them or none."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from boundary import Runtime
from boundary.operations import show_saga
from boundary.rendering import render_trace
from boundary.settings import Settings
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.trace import trace, trace_message
from saga import Event, KeyConflict, NoTransaction, PayloadError, Rejected, Saga, Step
from tests.boundary.worlds.lending import DUNE, EMMA, LOAN, NOTHING, ONE, OTHER_EMMA, Lend, Loan


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


class TestData:
    @pytest.mark.parametrize(
        "data",
        [
            Loan(reader="a\x00b"),
            Loan.model_construct(book="Emma", reader="\ud800", days=1, lend=True),
            Loan(days=float("nan")),
            Loan(days=float("inf")),
            Loan(reader="x" * 300_000),
            Loan.model_construct(book="Emma", reader="Ann", days="soon", lend=True),  # type: ignore[arg-type]
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


def test_a_connection_of_the_host_s_own_engine_will_do(
    library: Runtime, engine: Engine, count: Any
) -> None:
    connection: Connection
    with engine.begin() as connection:
        library.start(connection, LOAN, EMMA)
    assert count() == ONE
