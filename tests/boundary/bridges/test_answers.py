"""A saga calls a system outside by a bridge, and hears its answer by another."""

from typing import Any
from uuid import UUID

import pytest

from boundary.bridges import OutgoingBridge
from boundary.bridges.cloud_event import CloudEvent
from internals import Context, Work
from saga import SETTLED, Command, Saga, Step
from tests.boundary.bridges.bridged_systems import Docked, Left, Station
from tests.boundary.bridges.streams import docked, put


class Call(Command, kind="berths.call"):
    ship: str


def _berths() -> Context:
    """Tells of each call, to whom an outgoing bridge takes it."""
    berths = Context("berths")

    @berths.handles(Call, emits=(Left,))
    def tell(command: Call, work: Work) -> None:
        work.publish(Left(ship=command.ship))

    return berths


def _gone_out(station: Station) -> UUID:
    """Have a call go out; returns its id, which is what those outside know of it."""
    for name in ("saga.visit", "berths", "out"):
        station.runtime.answer(name)
    called: UUID
    [(called,)] = station.outside.execute(
        "SELECT id FROM outbox WHERE kind = 'harbour.left'"
    ).fetchall()
    return called


def _visit(*, until: Any) -> Saga[Call]:
    return Saga("visit", Call, steps=(Step("berth", lambda call: call, until=until),))


def _call(station: Station, visit: Saga[Call]) -> UUID:
    with station.runtime.engine.begin() as connection:
        return station.runtime.start(connection, visit, Call(ship="Ellen"))


def _docked_because_of(cause: UUID) -> CloudEvent:
    event = docked("Ellen", 4)
    return CloudEvent({**event.attributes, "causationid": str(cause)}, event.data)


class TestSagas:
    def test_a_context_elsewhere_answers_a_step(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        """The pilot is called by an event; what the other side says of it ends the step."""
        visit = _visit(until=Docked)
        station = Station(elsewhere, apart, stream, [_berths(), out], [visit], joins_sagas=True)
        id = _call(station, visit)
        put(stream, _docked_because_of(_gone_out(station)))
        station.hear(1)
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "completed"
        assert station.noted() == [("Ellen", 4)]
        station.close()

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_the_stream_gives_again_is_not_waited_for_twice(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        """A reader that died before it had confirmed an event is given it once more."""
        visit, watch = _visit(until=SETTLED), Context("watch")
        watch.reacts_to(Left)(lambda _, __: None)
        contexts = [_berths(), watch, out]
        station = Station(elsewhere, apart, stream, contexts, [visit], joins_sagas=True)
        id = _call(station, visit)
        called = _gone_out(station)
        for _ in range(2):
            put(stream, _docked_because_of(called))
            station.hear(1)
        assert station.noted() == [("Ellen", 4)]
        repeats = apart.execute(
            "SELECT repeats FROM outbox WHERE kind = 'harbour.docked'"
        ).fetchall()
        assert repeats == [(1,)]
        assert apart.execute("SELECT open FROM settling").fetchall() == [(1,)]
        station.runtime.answer("watch")
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "completed"
        station.close()

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_nobody_answers_for_a_step_where_that_is_not_asked_for(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        visit = _visit(until=Docked)
        station = Station(elsewhere, apart, stream, [_berths(), out], [visit])
        id = _call(station, visit)
        put(stream, _docked_because_of(_gone_out(station)))
        station.hear(1)
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "running"
        station.close()


def _status(outside: Any, id: UUID) -> str:
    return str(outside.execute("SELECT status FROM saga WHERE id = %s", [id]).fetchone()[0])
