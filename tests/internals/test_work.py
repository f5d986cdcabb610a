"""Work: what a handler is given, inside the transaction that settles its delivery."""

from typing import Any

import pytest
from sqlalchemy import select, text

from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga import Done, Retry, UndeclaredEmission
from tests.internals.gallery import Effect, Hang, Hung, gallery, work


class TestSession:
    def test_it_is_flushed_when_the_handler_returns(self, store: Any, command: Any) -> None:
        def handle(message: Hang, work: Work) -> None:
            work.session.add(Effect(n=message.n))

        store.send(command(Hang(n=1)), command(Hang(n=2)))
        store.drain(gallery(handle))
        assert store.effects() == [1, 2]

    def test_it_is_in_the_transaction_of_the_connection(self, store: Any, command: Any) -> None:
        def handle(message: Hang, work: Work) -> None:
            work.connection.execute(text("INSERT INTO effect VALUES (10)"))
            assert work.session.scalars(select(Effect.n)).all() == [10]
            work.session.add(Effect(n=11))
            work.session.flush()
            assert work.connection.scalar(text("SELECT count(*) FROM effect")) == 2
            assert store.effects() == []

        store.send(command(Hang()))
        store.drain(gallery(handle))
        assert store.effects() == [10, 11]

    def test_its_commit_and_rollback_reach_no_further_than_itself(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Hang, work: Work) -> None:
            work.session.add(Effect(n=10 + message.n))
            work.session.commit()
            work.session.add(Effect(n=20 + message.n))
            work.session.rollback()
            assert store.effects() == []
            if message.n == 1:
                raise ValueError

        store.send(command(Hang(n=0)), command(Hang(n=1)), command(Hang(n=2)))
        store.hop(gallery(handle))
        assert store.effects() == [10, 12]

    def test_a_flush_that_fails_at_the_end_is_the_handler_s_failure(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Hang, work: Work) -> None:
            work.session.add(Effect(n=message.n if message.n != 1 else None))

        sent = [command(Hang(n=n)) for n in range(3)]
        store.send(*sent)
        store.hop(gallery(handle))
        assert store.effects() == [0, 2]
        assert [store.delivery(m)["attempts"] for m in sent] == [0, 1, 0]

    def test_it_is_one_for_each_run(self, store: Any, command: Any) -> None:
        seen: list[Any] = []

        def handle(message: Hang, work: Work) -> None:
            assert work.session is work.session
            assert not list(work.session.identity_map)  # type: ignore[call-overload]
            work.session.add(Effect(n=message.n))
            work.session.flush()
            seen.append(work.session)

        store.send(command(Hang(n=1)), command(Hang(n=2)))
        store.drain(gallery(handle))
        assert seen[0] is not seen[1]

    def test_it_needs_sqlalchemy(self, command: Any) -> None:
        class Other:
            connection = object()

        with pytest.raises(TypeError, match="needs SQLAlchemy"):
            _ = work(Other(), command).session


class TestIdentity:
    def test_the_idempotency_key_stays_the_same_however_often_it_is_run(
        self, store: Any, command: Any
    ) -> None:
        keys: list[str] = []

        def handle(message: Hang, work: Work) -> None:
            keys.append(work.idempotency_key)
            if len(keys) < 3:
                raise ValueError

        message = command(Hang())
        store.send(message)
        for _ in range(3):
            store.drain(gallery(handle, retry=Retry(attempts=5)))
            store.make_due()
        assert keys == [f"gallery:{message.id}"] * 3

    def test_it_differs_for_each_consumer_of_an_event(self, store: Any, event: Any) -> None:
        keys: set[str] = set()
        contexts = [Context("one"), Context("two")]
        for context in contexts:
            context.reacts_to(Hung)(lambda _, work: keys.add(work.idempotency_key))
        store.subscribe(*contexts)
        message = event(Hung())
        store.send(message)
        for context in contexts:
            store.drain(context)
        assert keys == {f"one:{message.id}", f"two:{message.id}"}

    def test_it_knows_its_message_and_saga(self, command: Any) -> None:
        message = command(Hang(), saga="trip")
        one = Work(message, consumer="gallery", emits=())
        assert (one.message_id, one.saga_id) == (message.id, message.saga_id)


class TestSending:
    def test_publish_takes_an_event_and_send_a_command(self, command: Any) -> None:
        one = work(None, command, Hang, Hung)
        with pytest.raises(TypeError, match=r"publish\(\) takes an Event, not Hang"):
            one.publish(Hang())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"send\(\) takes a Command, not Hung"):
            one.send(Hung())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"publish\(\) takes an Event, not Done"):
            one.publish(Done())  # type: ignore[arg-type]
        assert one.sent == []

    def test_only_what_emits_lists(self, command: Any) -> None:
        one = work(None, command, Hung)
        one.publish(Hung())
        with pytest.raises(UndeclaredEmission, match=r"gallery sent gallery\.hang"):
            one.send(Hang())
        assert [message.kind for message in one.sent] == [Hung.kind]

    def test_a_subclass_of_what_is_listed_is_not_listed(self, command: Any) -> None:
        class HungCrooked(Hung, kind="gallery.hung_crooked"):
            pass

        with pytest.raises(UndeclaredEmission):
            work(None, command, Hung).publish(HungCrooked())

    def test_nothing_is_written_before_the_handler_has_returned(
        self, store: Any, command: Any
    ) -> None:
        with store.transaction() as unit:
            work(unit, command, Hung).publish(Hung())
            assert unit.run(f"SELECT * FROM {store.schema}.outbox", {}) == []


def test_it_never_commits(store: Any, command: Any, outside: Any) -> None:
    with store.engine.connect() as connection, connection.begin() as transaction:
        one = Work(
            command(Hang()),
            consumer="gallery",
            emits=(),
            unit=SqlAlchemyUnitOfWork(connection),
        )
        one.session.add(Effect(n=1))
        one.finish()
        assert transaction.is_active
        assert store.effects() == []
        transaction.rollback()
    assert store.effects() == []


class TestExecute:
    def test_it_runs_in_the_transaction_of_the_handler(self, store: Any, command: Any) -> None:
        seen: list[Any] = []

        def handle(message: Hang, work: Work) -> None:
            work.execute("INSERT INTO effect VALUES (%(n)s)", {"n": message.n})
            seen.append(work.execute("SELECT n, 'a%%' FROM effect"))
            assert store.effects() == []
            if message.n == 2:
                raise ValueError("no nail")

        for n in (1, 2):
            store.send(command(Hang(n=n)))
        store.hop(gallery(handle, retry=Retry(attempts=1)))
        # The first is run again with a savepoint, since the second had written and raised.
        assert seen == [[(1, "a%")], [(1, "a%"), (2, "a%")], [(1, "a%")]]
        assert store.effects() == [1]

    def test_what_fails_in_it_is_the_handler_s_failure(self, store: Any, command: Any) -> None:
        def handle(message: Hang, work: Work) -> None:
            if message.n == 2:
                work.execute("SELECT 1/0")
            work.execute("INSERT INTO effect VALUES (%(n)s)", {"n": message.n})

        messages = [command(Hang(n=n)) for n in (1, 2, 3)]
        store.send(*messages)
        store.hop(gallery(handle, retry=Retry(attempts=1)))
        assert store.effects() == [1, 3]
        assert "division by zero" in store.delivery(messages[1])["last_error"]

    def test_it_is_refused_while_an_external_handler_calls_out(
        self, store: Any, command: Any
    ) -> None:
        message = command(Hang(n=1))
        store.send(message)
        handle = lambda _, work: work.execute("SELECT 1")  # noqa: E731
        store.drain(gallery(handle, external=True, retry=Retry(attempts=1)))
        assert "call work.begin() after the call" in store.delivery(message)["last_error"]
