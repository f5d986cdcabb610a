"""Work: what a handler is given, inside the transaction that settles its delivery."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import drain
from saga import Command, Done, Event, NoTransaction, Retry, UndeclaredEmission


class Hang(Command, kind="gallery.hang"):
    n: int = 0


class Hung(Event, kind="gallery.hung"):
    pass


class Tables(DeclarativeBase):
    """The gallery's own."""


class Effect(Tables):
    __tablename__ = "effect"
    n: Mapped[int] = mapped_column(primary_key=True)


def gallery(handle: Any, **declared: Any) -> Context:
    context = Context("gallery")
    context.handles(Hang, **declared)(handle)
    return context


def work(unit: Any, command: Any, *emits: Any) -> Work:
    return Work(command(Hang()), consumer="gallery", emits=emits, unit=unit)


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
            assert not list(work.session.identity_map)
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


class TestAround:
    """What a host framework enters around each run of a handler."""

    @pytest.mark.parametrize("external", [False, True])
    def test_it_is_entered_around_each_run_and_left_though_the_handler_fails(
        self, store: Any, command: Any, external: bool
    ) -> None:
        seen: list[str] = []

        @contextmanager
        def around(work: Work) -> Iterator[None]:
            seen.append("in")
            try:
                yield
            finally:
                seen.append("out")

        def handle(message: Hang, work: Work) -> None:
            seen.append(f"run {message.n}")
            if message.n == 2:
                raise ValueError("no nail")

        context = gallery(handle, external=external, retry=Retry(attempts=1))
        consumer = store.consumer(context, around=around)
        for n in (1, 2):
            store.send(command(Hang(n=n)))
            drain(store.database, consumer, lambda _: None)
        assert seen == ["in", "run 1", "out", "in", "run 2", "out"]

    def test_what_it_writes_is_undone_with_the_handler(self, store: Any, command: Any) -> None:
        @contextmanager
        def around(work: Work) -> Iterator[None]:
            work.connection.execute(text("INSERT INTO effect VALUES (1)"))
            yield

        def handle(message: Hang, work: Work) -> None:
            if message.n == 2:
                raise ValueError("no nail")

        context = gallery(handle, retry=Retry(attempts=1))
        store.send(command(Hang(n=1)), command(Hang(n=2)))
        drain(store.database, store.consumer(context, around=around), lambda _: None)
        assert store.effects() == [1]


class Framed(Event, kind="gallery.framed"):
    n: int = 0


class TestIds:
    """What a handler sends has ids that follow from what it handles."""

    def sent(self, message: Any, *names: str | None, consumer: str = "gallery") -> list[Any]:
        one = Work(message, consumer=consumer, emits=(Hang, Hung, Framed))
        for name in names:
            one.publish(Hung(), element=name)
        one.send(Hang())
        one.publish(Framed())
        return one.sent

    def test_a_run_that_is_repeated_sends_the_same(self, command: Any) -> None:
        message = command(Hang())
        first = self.sent(message, None, None)
        assert [m.id for m in first] == [m.id for m in self.sent(message, None, None)]
        others = [
            *self.sent(command(Hang()), None, None),
            *self.sent(message, None, None, consumer="attic"),
        ]
        assert len({m.id for m in [*first, *others]}) == len(first) + len(others)

    def test_an_element_takes_the_place_of_the_number(self, command: Any) -> None:
        message = command(Hang())
        ids = {name: m.id for name, m in zip("ab", self.sent(message, "a", "b"), strict=False)}
        turned = {name: m.id for name, m in zip("ba", self.sent(message, "b", "a"), strict=False)}
        assert ids == turned
        assert self.sent(message, "1")[0].id != self.sent(message, None)[0].id

    def test_two_of_one_element_are_a_mistake(self, command: Any) -> None:
        with pytest.raises(ValueError, match=r"sent gallery\.hung twice for element 'a'"):
            self.sent(command(Hang()), "a", "a")

    @pytest.mark.parametrize("wrong", ["", 1])
    def test_an_element_has_a_name(self, command: Any, wrong: Any) -> None:
        with pytest.raises(TypeError, match="element= takes the name"):
            self.sent(command(Hang()), wrong)

    def test_what_means_the_same_has_the_same_key_at_any_depth(self, command: Any) -> None:
        """A step is replayed: the call of a reaction two hops down is the same call."""
        first = command(Hang())
        again = replace(command(Hang()), intent=first.id)
        below = [self.sent(message, None)[0] for message in (first, again)]
        deep = [self.sent(message, None, consumer="attic")[0] for message in below]
        assert below[0].id != below[1].id
        assert deep[0].id != deep[1].id
        assert [m.intent for m in (below[0], deep[0])] == [None, None]
        assert deep[0].idempotency_key("shop") == deep[1].idempotency_key("shop")
        assert deep[0].idempotency_key("shop") != below[0].idempotency_key("shop")

    def test_intents_and_what_is_undone_are_kept(self, store: Any, command: Any) -> None:
        seen: list[tuple[str, str | None]] = []
        intent = uuid4()
        message = replace(command(Hang()), intent=intent, undoes="bank:1")
        store.send(message)
        store.drain(gallery(lambda _, work: seen.append((work.idempotency_key, work.undoes))))
        assert seen == [(f"gallery:{intent}", "bank:1")]


def _execute(work: Work) -> None:
    work.execute("INSERT INTO effect VALUES (9)")


def _connection(work: Work) -> None:
    work.connection.execute(text("INSERT INTO effect VALUES (9)"))


def _session(work: Work) -> None:
    work.session.add(Effect(n=9))


#: What a handler can do with its work that writes or sends.
USES: dict[str, Callable[[Work], object]] = {
    "execute": _execute,
    "connection": _connection,
    "session": _session,
    "begin": Work.begin,
    "publish": lambda work: work.publish(Hung()),
    "send": lambda work: work.send(Hang()),
}


class TestClosed:
    """When its handler has ended a work writes and sends no more: the transaction is others'."""

    @pytest.mark.parametrize("use", USES)
    @pytest.mark.parametrize("ended", ["returned", "raised", "external", "external that began"])
    def test_it_is_refused_from_a_stored_reference(
        self, store: Any, command: Any, use: str, ended: str
    ) -> None:
        works: list[Work] = []
        refused: list[BaseException] = []

        def handle(message: Hang, work: Work) -> None:
            if works:  # the next delivery's handler, in the same transaction
                with pytest.raises(NoTransaction, match="has ended, and its work with it") as info:
                    USES[use](works[0])
                refused.append(info.value)
                return
            works.append(work)
            if "began" in ended:
                work.begin()
            if ended == "raised":
                raise ValueError("no nail")

        external = ended.startswith("external")
        context = gallery(handle, external=external, emits=(Hung, Hang), retry=Retry(attempts=1))
        store.send(command(Hang(n=1)), command(Hang(n=2)))
        store.drain(context)
        assert len(refused) == 1
        with pytest.raises(NoTransaction, match=r"gallery\.hang has ended"):  # and after the commit
            USES[use](works[0])
        assert store.effects() == []
        assert store.sent(Hung.kind) == []
        assert len(store.deliveries("gallery")) == 2

    def test_a_session_that_was_kept_is_closed_for_good(self, store: Any, command: Any) -> None:
        kept: list[Any] = []

        def handle(message: Hang, work: Work) -> None:
            if kept:
                with pytest.raises(Exception, match="permanently closed"):
                    kept[0].execute(text("INSERT INTO effect VALUES (9)"))
            kept.append(work.session)

        store.send(command(Hang(n=1)), command(Hang(n=2)))
        store.drain(gallery(handle, retry=Retry(attempts=1)))
        assert store.effects() == []
        assert len(kept) == 2

    def test_a_threads_statement_that_is_under_way_is_in_the_handlers_transaction(
        self, store: Any, command: Any
    ) -> None:
        begun, refused = threading.Event(), threading.Event()

        def write(work: Work) -> None:
            begun.set()
            work.execute("INSERT INTO effect SELECT 1 FROM pg_sleep(0.2)")
            with suppress(NoTransaction):
                while True:  # until the handler has ended
                    work.execute("SELECT 1")
            refused.set()

        def handle(message: Hang, work: Work) -> None:
            thread = threading.Thread(target=write, args=(work,))
            threads.append(thread)
            thread.start()
            assert begun.wait(20)
            while not work.touched:
                begun.wait(0.001)

        threads: list[threading.Thread] = []
        message = command(Hang(n=1))
        store.send(message)
        store.drain(gallery(handle))
        threads[0].join(30)
        assert refused.is_set()
        assert store.delivery(message)["state"] == "done"
        assert store.effects() == [1]

    def test_what_is_kept_is_read_all_the_same(self, store: Any, command: Any) -> None:
        works: list[Work] = []
        message = command(Hang(n=1))
        store.send(message)
        store.drain(gallery(lambda _, work: works.append(work)))
        assert works[0].message_id == message.id
        assert works[0].idempotency_key
