"""Deliveries that no handler gets: nobody handles them, or they cannot be read."""

from typing import Any

import pytest

from internals import Context, Work
from internals.hop import drain
from internals.hop.unhandled import SHORTEST_DELAY
from saga import Command, Retry
from tests.internals.hop.depot import Label, Pack, depot, silent


class Heavy(Command, kind="depot.pack"):
    """As a newer release has it."""

    n: int
    by: str | None = None


class Weighed(Command, kind="depot.pack"):
    """As another release has it, which cannot do without a field."""

    n: int
    weight: int


class TestUnread:
    def test_what_a_newer_release_added_is_ignored_and_kept(
        self, store: Any, command: Any, note: Any
    ) -> None:
        sent = command(Heavy(n=1, by="Ada"))
        store.send(sent)
        store.drain(depot(lambda message, work: note(work, message.n)))
        assert store.effects() == [1]
        assert store.sent("depot.pack")[0]["payload"] == {"n": 1, "by": "Ada"}

    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize("rings", [0, 5])
    def test_what_cannot_be_read_is_left_for_a_worker_that_can(
        self, store: Any, command: Any, note: Any, external: bool, rings: int, caplog: Any
    ) -> None:
        unread = [command(Pack(n=n), retry=Retry(attempts=1)) for n in (1, 2)]
        store.send(*unread)
        store.rows("UPDATE inbox SET rings = %s RETURNING rings", rings)

        def handle(message: Any, work: Work) -> None:
            work.begin()
            note(work, message.n)

        here = Context("depot")
        here.handles(Weighed, external=external)(handle)
        consumer = store.consumer(here)
        with caplog.at_level("WARNING"):
            for _ in range(3):
                drain(store.database, consumer, silent)
                for each in unread:
                    row = store.delivery(each)
                    assert (row["state"], row["attempts"]) == ("pending", 0)
                    assert (row["started_at"], row["lease"]) == (None, None)
                    why = "cannot be read here: depot.pack: field weight: Field required"
                    assert row["last_error"] == why
                store.make_due()
        (told,) = caplog.records  # once, however many there are and however often they are met
        assert told.getMessage().endswith("is left for another worker: " + why)

        there = Context("depot")
        there.handles(Pack, external=external)(handle)
        store.drain(there)
        assert sorted(store.effects()) == [1, 2]

    def test_what_a_handler_cannot_read_by_itself_is_its_own_failure(
        self, store: Any, command: Any
    ) -> None:
        sent = command(Pack(n=1), retry=Retry(attempts=1))
        store.send(sent)
        store.drain(depot(lambda *_: Weighed.from_json("{}") and None))  # type: ignore[arg-type]
        row = store.delivery(sent)
        assert row["state"] == "parked"
        assert row["last_error"].startswith("UnreadableMessage: depot.pack: field n")

    def test_a_body_that_did_not_run_is_a_failure_in_words(self, store: Any, command: Any) -> None:
        async def body() -> None: ...

        sent = command(Pack(n=1), retry=Retry(attempts=1))
        store.send(sent)
        store.drain(depot(lambda *_: body()))  # type: ignore[arg-type]
        row = store.delivery(sent)
        assert row["state"] == "parked"
        assert "returned an awaitable, coroutine, whose body has not run" in row["last_error"]


class TestUnknown:
    def test_a_kind_that_this_worker_does_not_know_is_left_where_it_is(
        self, store: Any, command: Any, note: Any
    ) -> None:
        unknown, known = command(Label(n=7), retry=Retry(attempts=1)), command(Pack(n=1))
        store.send(unknown, known)
        old = depot(lambda message, work: note(work, message.n))
        for _ in range(3):  # however often it is looked at
            before = store.clock()
            store.drain(old)
            row = store.delivery(unknown)
            assert (row["state"], row["attempts"]) == ("pending", 0)
            assert row["last_error"] == "no handler for depot.label in this worker"
            assert row["ring_at"] >= row["due_at"]
            assert (row["due_at"] - before).total_seconds() >= SHORTEST_DELAY
            store.make_due()
        assert store.effects() == [1]

        new = Context("depot")
        new.handles(Label)(lambda message, work: note(work, message.n))
        store.drain(new)
        assert store.delivery(unknown)["state"] == "done"
        assert store.effects() == [1, 7]
