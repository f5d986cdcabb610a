"""A saga's handle: an id like any other, which can be asked, waited for and acted on."""

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import bindparam, text
from sqlalchemy.types import Uuid

from boundary import Runtime, SagaHandle
from internals import Context, Work
from saga import (
    ActRefused,
    Command,
    Event,
    PayloadError,
    Rejected,
    Retry,
    Saga,
    Status,
    Step,
    UnknownSaga,
    Wait,
)


class Parcel(BaseModel):
    number: str
    cents: int = 0


class Weigh(Command, kind="depot.weigh"):
    cents: int


class Collected(Event, kind="depot.collected"):
    by: str


def make_depot() -> Context:
    depot = Context("depot")

    @depot.handles(Weigh, retry=Retry(attempts=1))
    def weigh(command: Weigh, work: Work) -> None:
        if command.cents > 100:
            raise Rejected("too heavy")
        if command.cents < 0:
            raise ValueError("broken scales")

    return depot


WEIGH = Step[Parcel]("weigh", lambda parcel: Weigh(cents=parcel.cents))
SHIPMENT = Saga("shipment", Parcel, (WEIGH,), key=lambda parcel: parcel.number)
PICKUP = Saga("pickup", Parcel, (Wait("come", until=Collected), WEIGH))


class Depot:
    """A depot whose deliveries are handled when the test says so."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def start(self, saga: Saga[Parcel] = SHIPMENT, number: str = "P-1", cents: int = 5) -> Any:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, saga, Parcel(number=number, cents=cents))

    def handle_all(self) -> None:
        while sum(map(self.runtime.answer, ("depot", "saga.shipment", "saga.pickup"))):
            pass


@pytest.fixture
def depot(runtime: Callable[..., Runtime]) -> Depot:
    return Depot(runtime([SHIPMENT, PICKUP], [make_depot()]))


class TestId:
    def test_it_equals_the_plain_id_and_is_found_under_it(self, depot: Depot) -> None:
        handle = depot.start()
        plain = UUID(str(handle))
        assert isinstance(handle, SagaHandle)
        assert handle == plain
        assert plain == handle
        assert {plain: "here"}[handle] == "here"
        assert sorted([handle, UUID(int=0)]) == [UUID(int=0), plain]
        assert json.dumps(str(handle)) == f'"{plain}"'

    def test_each_of_many_is_one(self, depot: Depot) -> None:
        items = [Parcel(number=f"P-{n}") for n in range(3)]
        with depot.runtime.engine.begin() as connection:
            handles = depot.runtime.start_many(connection, SHIPMENT, items)
        assert [handle.status() for handle in handles] == [Status.RUNNING] * 3

    @pytest.mark.parametrize(
        "again", [copy.copy, copy.deepcopy, lambda handle: pickle.loads(pickle.dumps(handle))]
    )
    def test_a_copy_is_a_plain_id(self, depot: Depot, again: Any) -> None:
        handle = depot.start()
        assert type(again(handle)) is UUID
        assert again(handle) == handle

    def test_it_is_a_parameter_of_sql(self, depot: Depot, outside: psycopg.Connection[Any]) -> None:
        handle = depot.start()
        [(found,)] = outside.execute("SELECT %s::uuid", [handle]).fetchall()
        assert found == handle
        [(listed,)] = outside.execute("SELECT %s::uuid[]", [[handle]]).fetchall()
        assert listed == [handle]
        with depot.runtime.engine.begin() as connection:
            assert connection.scalar(text("SELECT :id ::uuid"), {"id": handle}) == handle
            typed = text("SELECT :id").bindparams(bindparam("id", type_=Uuid()))
            assert connection.scalar(typed, {"id": handle}) == handle

    def test_it_is_a_field_of_a_model(self, depot: Depot) -> None:
        class Answer(BaseModel):
            saga: UUID

        handle = depot.start()
        assert Answer(saga=handle).model_dump_json() == f'{{"saga":"{handle}"}}'

    def test_it_cannot_be_changed(self, depot: Depot) -> None:
        with pytest.raises(TypeError, match="immutable"):
            depot.start().int = 0


class TestStatus:
    def test_it_is_what_is_committed(self, depot: Depot) -> None:
        with depot.runtime.engine.begin() as connection:
            handle = depot.runtime.start(connection, SHIPMENT, Parcel(number="P-1"))
            with pytest.raises(UnknownSaga, match="its start is not committed yet"):
                handle.status()
        assert handle.status() is Status.RUNNING
        depot.handle_all()
        assert handle.status() is Status.COMPLETED

    def test_its_details_are_those_that_operators_see(self, depot: Depot) -> None:
        handle = depot.start(PICKUP)
        details = handle.details()
        assert details.data == {"number": "P-1", "cents": 5}
        assert [step.name for step in details.steps] == ["come"]
        assert "depot.collected" in str(details.waits_for), "as its definition says"

    def test_its_trace_begins_with_its_start(self, depot: Depot) -> None:
        handle = depot.start()
        kinds = [node.kind for _, node in handle.trace().walk()]
        assert kinds == ["saga.started", "depot.weigh"]

    @pytest.mark.parametrize("ask", [SagaHandle.status, SagaHandle.details, SagaHandle.trace])
    def test_one_that_is_none_is_unknown(self, depot: Depot, ask: Any) -> None:
        with pytest.raises(UnknownSaga):
            ask(depot.runtime.sagas.handle(uuid4()))


class TestWait:
    @pytest.mark.parametrize(
        ("cents", "status"),
        [(5, Status.COMPLETED), (500, Status.COMPENSATED), (-1, Status.STUCK)],
    )
    def test_it_ends_when_the_saga_is_over_or_stuck(
        self, depot: Depot, cents: int, status: Status
    ) -> None:
        handle = depot.start(cents=cents)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(handle.wait, timedelta(seconds=60))
            depot.handle_all()
            assert waiting.result(60) is status

    def test_one_that_is_over_needs_no_time(self, depot: Depot) -> None:
        handle = depot.start()
        depot.handle_all()
        assert handle.wait(0) is Status.COMPLETED

    @pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
    def test_its_patience_ends(self, depot: Depot, timeout: Any) -> None:
        handle = depot.start()
        with pytest.raises(TimeoutError, match=rf"{handle} is still running after 0\S* s"):
            handle.wait(timeout)

    def test_one_that_is_not_there_is_not_waited_for(self, depot: Depot) -> None:
        with pytest.raises(UnknownSaga):
            depot.runtime.sagas.handle(uuid4()).wait(60)


class TestActing:
    def test_a_signal_is_committed_at_once(self, depot: Depot) -> None:
        handle = depot.start(PICKUP)
        handle.signal(Collected(by="Ann"))
        depot.handle_all()
        assert handle.status() is Status.COMPLETED

    def test_a_signal_that_is_repeated_is_one(self, depot: Depot) -> None:
        handle, id = depot.start(PICKUP), uuid4()
        for _ in range(2):
            handle.signal(Collected(by="Ann"), id=id)
        kinds = [node.kind for _, node in handle.trace().walk()]
        assert kinds.count("depot.collected") == 1

    def test_a_cancellation_is_committed_at_once(self, depot: Depot) -> None:
        handle = depot.start(PICKUP)
        acted = handle.cancel(reason="nobody came", actor="ann")
        assert (acted.before, acted.after) == (Status.RUNNING, Status.COMPENSATED)
        assert handle.status() is Status.COMPENSATED
        [entry] = handle.details().audit
        assert (entry.actor, entry.reason) == ("ann", "nobody came")

    def test_who_gets_something_is_rung(
        self, depot: Depot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rung: list[str] = []
        monkeypatch.setattr(
            depot.runtime._wiring.broker,
            "ring",
            lambda names: rung.extend(names) or set(),  # type: ignore[func-returns-value]
        )
        handle = depot.start(PICKUP)
        handle.signal(Collected(by="Ann"))
        assert rung == ["saga.pickup"]

    def test_what_cannot_be_done_is_refused_and_leaves_nothing(self, depot: Depot) -> None:
        handle = depot.start()
        with pytest.raises(ActRefused, match="waits for no"):
            handle.signal(Collected(by="Ann"))
        with pytest.raises(PayloadError, match="give a reason"):
            handle.cancel(reason=" ", actor="ann")
        assert handle.details().audit == ()


class TestSagas:
    def test_one_is_got_by_id_or_by_its_key(self, depot: Depot) -> None:
        handle = depot.start()
        sagas = depot.runtime.sagas
        for reference in (handle, UUID(str(handle)), str(handle)):
            assert sagas.get(reference) == handle
        assert sagas.get((SHIPMENT, "P-1")) == handle
        assert sagas.get(("shipment", "P-1")).status() is Status.RUNNING

    @pytest.mark.parametrize(
        "reference", [UUID(int=1), "P-1", (SHIPMENT, "P-2"), (PICKUP, "P-1"), ("shipment", "")]
    )
    def test_one_that_is_not_there_is_unknown(self, depot: Depot, reference: Any) -> None:
        depot.start()
        with pytest.raises(UnknownSaga):
            depot.runtime.sagas.get(reference)

    def test_a_list_goes_on_where_the_page_before_ended(
        self, depot: Depot, outside: psycopg.Connection[Any]
    ) -> None:
        items = [Parcel(number=f"P-{n}") for n in range(5)]
        with depot.runtime.engine.begin() as connection:
            ids = depot.runtime.start_many(connection, SHIPMENT, items)
        depot.start(PICKUP)
        outside.execute("UPDATE saga SET started_at = now()")
        sagas = depot.runtime.sagas
        pages = []
        before = None
        while page := sagas.list(SHIPMENT, before=before, limit=2):
            pages.append([summary.id for summary in page])
            before = page[-1]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert [id for page in pages for id in page] == sorted(ids, reverse=True)

    def test_a_list_has_what_fits(self, depot: Depot) -> None:
        depot.start(number="A-1")
        depot.handle_all()
        depot.start(number="A-2")
        depot.start(number="B-1")
        sagas = depot.runtime.sagas

        def keys(**wanted: Any) -> list[str | None]:
            return [summary.key for summary in sagas.list(**wanted)]

        assert keys() == ["B-1", "A-2", "A-1"]
        assert keys(key_prefix="A-") == ["A-2", "A-1"]
        assert keys(status=Status.COMPLETED) == ["A-1"]
        assert keys(saga="pickup") == []
        assert keys(since=timedelta(0)) == []
