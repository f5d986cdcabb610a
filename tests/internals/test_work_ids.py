"""Ids of what a handler sends, and what its Work is good for when the handler has returned."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from internals import Work
from internals.hop import drain
from saga import Event, NoTransaction, Retry
from tests.internals.gallery import Effect, Hang, Hung, gallery


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
