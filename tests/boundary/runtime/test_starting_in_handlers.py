"""A handler starts sagas with its work: in its own transaction, and the same ones when it is run again."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import Command, Event, KeyConflict, NoTransaction, Rejected, Retry, Saga, Step


class Visit(BaseModel):
    guest: str
    beds: int = 1


class MakeBed(Command, kind="rooms.make_bed"):
    guest: str


class Arrived(Event, kind="hall.arrived"):
    guest: str = "Ann"


VISIT = Saga(
    "visit", Visit, (Step("bed", lambda v: MakeBed(guest=v.guest)),), key=lambda v: v.guest
)
STAY = Saga("stay", Visit, (Step("bed", lambda v: MakeBed(guest=v.guest)),))


class Hall:
    """A context whose handler does to its work what the test says."""

    def __init__(self, runtime: Any, outside: psycopg.Connection[Any], **declared: Any) -> None:
        self.outside = outside
        self.does: Callable[[Work], object] = lambda _: None
        #: What each run returned or raised.
        self.ended: list[Any] = []
        hall = Context("hall", **declared.pop("context", {}))

        @hall.reacts_to(Arrived, retry=Retry(attempts=2, backoff=timedelta(0)), **declared)
        def greet(event: Arrived, work: Work) -> None:
            try:
                self.ended.append(self.does(work))
            except Exception as error:
                self.ended.append(error)
                raise

        self.runtime: Runtime = runtime([VISIT, STAY], [hall])
        self.runtime.subscribe()

    def arrive(self) -> None:
        with self.runtime.engine.begin() as connection:
            self.runtime.publish(connection, Arrived())
        while self.runtime.answer("hall"):
            pass

    def sagas(self) -> list[UUID]:
        return [id for (id,) in self.outside.execute("SELECT id FROM saga").fetchall()]

    def delivery(self) -> Any:
        [row] = self.outside.execute(
            "SELECT state, last_error FROM inbox WHERE consumer = 'hall'"
        ).fetchall()
        return row


@pytest.fixture
def hall(runtime: Any, outside: Any) -> Hall:
    return Hall(runtime, outside)


def test_it_begins_with_the_delivery_and_hangs_below_it(hall: Hall) -> None:
    hall.does = lambda work: work.start(VISIT, Visit(guest="Ann"))
    hall.arrive()
    assert hall.sagas() == hall.ended
    [cause] = hall.outside.execute(
        "SELECT cause.kind FROM outbox AS o JOIN outbox AS cause ON cause.id = o.causation_id "
        "WHERE o.kind = 'saga.started'"
    ).fetchall()
    assert cause == ("hall.arrived",)


def test_what_it_is_sent_to_is_rung_after_the_commit(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[str, int]] = []
    hall.does = lambda work: work.start(VISIT, Visit(guest="Ann"))

    def ring(names: Any) -> frozenset[str]:
        rung.extend((name, len(hall.sagas())) for name in names)
        return frozenset()

    monkeypatch.setattr(hall.runtime._wiring.broker, "ring", ring)
    hall.arrive()
    assert ("rooms", 1) in rung


@pytest.mark.parametrize("external", [False, True])
def test_a_run_that_is_repeated_starts_the_same_saga(
    runtime: Any, outside: Any, external: bool
) -> None:
    hall = Hall(runtime, outside, external=external)
    ids: list[UUID] = []

    def start(work: Work) -> None:
        work.begin()
        ids.append(work.start(STAY, Visit(guest="Ann")))
        ids.append(work.start(STAY, Visit(guest="Bob")))
        if len(ids) == 2:
            raise RuntimeError("the bell rang")

    hall.does = start
    hall.arrive()
    assert len(hall.ended) == 2
    assert ids[:2] == ids[2:]
    assert set(hall.sagas()) == set(ids[2:])
    assert ids[0] != ids[1]


def test_a_thread_of_the_handler_starts_the_same_saga_too(hall: Hall) -> None:
    ids: list[UUID] = []

    def start(work: Work) -> None:
        thread = threading.Thread(target=lambda: ids.append(work.start(STAY, Visit(guest="Ann"))))
        thread.start()
        thread.join()
        if len(ids) == 1:
            raise RuntimeError("the bell rang")

    hall.does = start
    hall.arrive()
    assert ids[0] == ids[1]
    assert hall.sagas() == ids[1:]


def test_none_begins_where_the_handler_says_no(hall: Hall) -> None:
    def refuse(work: Work) -> None:
        work.start(VISIT, Visit(guest="Ann"))
        raise Rejected("no room")

    hall.does = refuse
    hall.arrive()
    assert hall.sagas() == []


def test_one_key_is_one_saga(hall: Hall) -> None:
    hall.does = lambda work: [
        work.start(VISIT, Visit(guest="Ann")),
        work.start(STAY, Visit(guest="Ann"), key="A-1"),
        work.start(STAY, Visit(guest="Ann"), key="A-1"),
    ]
    hall.arrive()
    [[visit, *stays]] = hall.ended
    assert stays[0] == stays[1] != visit
    assert len(hall.sagas()) == 2


def test_a_key_with_other_data_is_a_conflict_and_the_handler_may_go_on(hall: Hall) -> None:
    def start(work: Work) -> str:
        work.start(VISIT, Visit(guest="Ann"))
        with pytest.raises(KeyConflict):
            work.start(VISIT, Visit(guest="Ann", beds=2))
        return "went on"

    hall.does = start
    hall.arrive()
    assert hall.ended == ["went on"]
    assert len(hall.sagas()) == 1


def test_many_begin_all_or_none(hall: Hall) -> None:
    hall.does = lambda work: work.start_many(STAY, [Visit(guest="Ann"), Visit(guest="Bob")])
    hall.arrive()
    [ids] = hall.ended
    assert sorted(hall.sagas()) == sorted(ids)


def test_an_external_handler_begins_first(runtime: Any, outside: Any) -> None:
    hall = Hall(runtime, outside, external=True)
    hall.does = lambda work: work.start(VISIT, Visit(guest="Ann"))
    hall.arrive()
    assert [type(error) for error in hall.ended] == [NoTransaction] * 2
    assert hall.sagas() == []


def test_one_that_has_ended_starts_none(hall: Hall) -> None:
    kept: list[Work] = []
    hall.does = kept.append
    hall.arrive()
    with pytest.raises(NoTransaction, match="has ended"):
        kept[0].start(VISIT, Visit(guest="Ann"))


def test_a_context_with_a_database_of_its_own_starts_none(
    runtime: Any, outside: Any, elsewhere: Any
) -> None:
    url = elsewhere.database_url.get_secret_value()

    def make(sagas: Any, contexts: Any) -> Any:
        return runtime(sagas, contexts, {"inn": url})

    hall = Hall(make, outside, context={"database": "inn"})
    hall.does = lambda work: work.start(VISIT, Visit(guest="Ann"))
    hall.arrive()
    assert "publish an event, and start the saga in the handler of another" in str(hall.ended[0])
    assert hall.sagas() == []
