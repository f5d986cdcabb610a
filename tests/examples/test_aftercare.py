"""The travel agent's own context: who has tickets of a cancelled flight is rebooked, once for each."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.schema import CreateSchema, DropSchema

from examples.travel import aftercare
from examples.travel.disruption import REBOOK_TRIP, Disruption
from examples.travel.messages import DocumentsIssued, FlightCancelled
from internals import Work
from saga import Event, Saga

FLIGHT, LATER = "AA2-JFK-BOS-0900", "AA4-JFK-BOS-1300"

Hear = Callable[[Connection, Event], None]


class _Work:
    """The part of the framework's `Work` that its handlers use.

    Args:
        connection: What they write with.
        begun: Trip and flight of each saga that was started.
    """

    def __init__(self, connection: Connection, begun: list[tuple[str, str]]) -> None:
        self.connection = connection
        self._begun = begun

    def start_many(self, saga: Saga[Disruption], items: Sequence[Disruption]) -> None:
        assert saga is REBOOK_TRIP
        self._begun.extend((item.reference, item.flight) for item in items)


@pytest.fixture
def begun() -> list[tuple[str, str]]:
    """Trip and flight of each saga that was started."""
    return []


@pytest.fixture
def hear(begun: list[tuple[str, str]]) -> Hear:
    """Let the context handle an event."""

    def hear(connection: Connection, event: Event) -> None:
        handler = aftercare.aftercare.handlers[event.kind]
        handler.function(event, cast(Work, _Work(connection, begun)))

    return hear


@pytest.fixture
def tables(connection_url: str) -> Iterator[Engine]:
    """The context's tables, committed, in a schema of their own."""
    schema = f"travel_test_{uuid4().hex[:12]}"
    engine = create_engine(
        connection_url, execution_options={"schema_translate_map": {"travel": schema}}
    )
    with engine.begin() as connection:
        connection.execute(CreateSchema(schema))
        aftercare.create_tables(connection)
    yield engine
    with engine.begin() as connection:
        connection.execute(DropSchema(schema, cascade=True))
    engine.dispose()


@pytest.fixture
def connection(tables: Engine) -> Iterator[Connection]:
    with tables.begin() as connection:
        yield connection


def tickets(trip: int, flight: str = FLIGHT, travellers: int = 2) -> DocumentsIssued:
    return DocumentsIssued(
        trip_id=UUID(int=trip),
        reference=f"TRIP-{trip}",
        traveller="Traveller",
        flight=flight,
        tickets=tuple(f"ETKT {number}" for number in range(travellers)),
    )


def test_who_has_tickets_is_rebooked_when_the_flight_is_cancelled(
    connection: Connection, hear: Hear, begun: Any
) -> None:
    for event in (tickets(1), tickets(2), tickets(3, LATER)):
        hear(connection, event)
    assert begun == []
    hear(connection, FlightCancelled(flight=FLIGHT))
    assert sorted(begun) == [("TRIP-1", FLIGHT), ("TRIP-2", FLIGHT)]


def test_who_gets_tickets_of_a_cancelled_flight_is_rebooked_at_once(
    connection: Connection, hear: Hear, begun: Any
) -> None:
    hear(connection, FlightCancelled(flight=FLIGHT))
    hear(connection, tickets(1))
    assert begun == [("TRIP-1", FLIGHT)]


def test_who_was_rebooked_is_so_again_when_that_flight_is_cancelled_too(
    connection: Connection, hear: Hear, begun: Any
) -> None:
    for event in (
        tickets(1),
        FlightCancelled(flight=FLIGHT),
        tickets(1, LATER),
        FlightCancelled(flight=LATER),
    ):
        hear(connection, event)
    assert begun == [("TRIP-1", FLIGHT), ("TRIP-1", LATER)]
    keys = [REBOOK_TRIP.key(_disruption(*each)) for each in begun if REBOOK_TRIP.key]
    assert len(set(keys)) == 2


def test_of_tickets_and_a_cancellation_at_the_same_time_the_second_sees_the_first(
    tables: Engine, hear: Hear, begun: Any, eventually: Callable[..., Any]
) -> None:
    with tables.begin() as first:
        hear(first, tickets(1))
        second = threading.Thread(target=_in_another, args=(tables, hear))
        second.start()
        eventually(lambda: _blocks(tables, first), 30, "the cancellation to wait")
        assert begun == []
    second.join()
    assert begun == [("TRIP-1", FLIGHT)]


def _in_another(tables: Engine, hear: Hear) -> None:
    with tables.begin() as connection:
        hear(connection, FlightCancelled(flight=FLIGHT))


def _blocks(tables: Engine, connection: Connection) -> bool:
    """Whether somebody waits for a connection; looked at in a new transaction, which sees it anew."""
    pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
    with tables.connect() as watching:
        found = watching.exec_driver_sql(
            "SELECT 1 FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", (pid,)
        ).first()
    return found is not None


def _disruption(reference: str, flight: str) -> Disruption:
    return Disruption(
        trip_id=UUID(int=1), reference=reference, traveller="T", travellers=2, flight=flight
    )
