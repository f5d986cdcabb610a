"""Disrupted: what became of trips whose flight was cancelled, told from the tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Executable, func, select, text

from examples.travel.checks import COMPENSATED, COMPLETED, Check, judge
from examples.travel.contexts.cars import fleet
from examples.travel.contexts.documents import tickets
from examples.travel.contexts.flights import departures
from examples.travel.contexts.hotels import rooms
from examples.travel.contexts.loyalty import goodwill
from examples.travel.contexts.notifications import sent
from examples.travel.contexts.rebooking import disruptions
from examples.travel.contexts.seating import bookings
from examples.travel.disruption import REBOOK_TRIP, Disruption
from examples.travel.trips import Trip

_ENDED = """
SELECT data, status FROM {schema}.saga WHERE name = :name ORDER BY started_at, id
"""

# Steps that were over because everything that they had set off was done.
_SETTLED = """
SELECT count(DISTINCT o.saga_id) FROM {schema}.outbox AS o
JOIN {schema}.outbox AS command ON command.id = o.root_id
WHERE o.kind = 'saga.settled' AND command.kind = 'flights.disrupt'
"""

_STANDING = """
SELECT count(*) FROM {schema}.outbox AS o JOIN {schema}.inbox AS i ON i.message_id = o.id
WHERE o.kind = 'saga.undo' AND i.outcome = 'no_undo'
"""


@dataclass(frozen=True, slots=True)
class Disrupted:
    """How it ended for trips whose flight was cancelled; a trip may be here more than once."""

    #: Each with the status of its saga `rebook_trip`, in the order in which those began.
    ended: Sequence[tuple[Disruption, str]]
    settled: int
    #: Reactions that could not be undone.
    still_standing: int

    @property
    def rebooked(self) -> list[Disruption]:
        """Those that leave later, or were to."""
        return [disruption for disruption, status in self.ended if status == COMPLETED]

    @property
    def undone(self) -> list[Disruption]:
        """Those for which no later flight had seats."""
        return [disruption for disruption, status in self.ended if status == COMPENSATED]

    def as_booked_now(self, trips: Sequence[Trip]) -> list[Trip]:
        """Return all trips, the rebooked ones with their last flights."""
        last = {disruption.trip_id: disruption.new_flight for disruption in self.rebooked}
        return [
            trip.model_copy(update={"flight": last[trip.trip_id]}) if trip.trip_id in last else trip
            for trip in trips
        ]


def read_disrupted(connection: Connection, schema: str) -> Disrupted:
    """Read what became of all that were disrupted."""
    rows = connection.execute(text(_ENDED.format(schema=schema)), {"name": REBOOK_TRIP.name})
    return Disrupted(
        ended=[(Disruption.model_validate(row.data), row.status) for row in rows],
        settled=connection.scalar(text(_SETTLED.format(schema=schema))) or 0,
        still_standing=connection.scalar(text(_STANDING.format(schema=schema))) or 0,
    )


def check_disrupted(
    connection: Connection, found: Disrupted, trips: Sequence[Trip]
) -> tuple[Check, ...]:
    """Check that whoever was to leave on a cancelled flight was rebooked whole, or left as before."""
    problems = {
        "trips_were_disrupted": _none(found),
        "every_disrupted_trip_is_rebooked_or_undone": _not_over(found),
        "on_cancelled_flights_are_those_who_found_no_other": _left_behind(connection, found),
        "rebooked_trips_leave_later_for_the_same_place": _wrong_flights(connection, found),
        "rebooked_trips_have_tickets_of_their_new_flight": _wrong_tickets(connection, found),
        "who_waits_was_looked_after_and_nobody_else": _reactions(connection, found, trips),
        "what_cannot_be_undone_is_reported": _unreported(connection, found),
    }
    return tuple(judge(name, lines) for name, lines in problems.items())


def _none(found: Disrupted) -> Iterator[str]:
    """Where nothing was disrupted nothing was tried, so it must not look like a success."""
    if not found.ended:
        yield (
            "no trip had tickets of a flight that is cancelled after noon; book more with --trips, "
            "on a day that has such flights"
        )


def _not_over(found: Disrupted) -> Iterator[str]:
    for disruption, status in found.ended:
        if status not in (COMPLETED, COMPENSATED):
            yield f"{disruption.reference} is {status}"
    if found.settled != len(found.ended):
        yield f"{found.settled} of {len(found.ended)} were settled before a flight was looked for"


def _left_behind(connection: Connection, found: Disrupted) -> Iterator[str]:
    """Tickets of a cancelled flight and no later one with seats belong together."""
    held = _pairs(
        connection,
        select(tickets.c.trip_id, tickets.c.flight)
        .join(departures, departures.c.flight == tickets.c.flight)
        .where(departures.c.cancelled_late),
    )
    for trip_id, flight in sorted(held ^ _trips_on(found.undone)):
        yield f"trip {trip_id} has tickets of {flight} and was not disrupted, or has none and was"


def _wrong_flights(connection: Connection, found: Disrupted) -> Iterator[str]:
    flights = {row.flight: row for row in connection.execute(select(departures))}
    again = {(disruption.trip_id, disruption.flight) for disruption, _ in found.ended}
    for disruption in found.rebooked:
        new = disruption.new_flight
        assert new is not None
        old, later = flights[disruption.flight], flights[new]
        if not (later.departs > old.departs and later.destination == old.destination):
            yield f"{disruption.reference} was on {disruption.flight} and is on {new}"
        called_off = later.cancelled_late and (disruption.trip_id, new) not in again
        if later.cancelled or called_off:
            yield f"{disruption.reference} is on {new}, which is cancelled too"


def _wrong_tickets(connection: Connection, found: Disrupted) -> Iterator[str]:
    last = {disruption.trip_id: disruption for disruption in found.rebooked}
    for trip_id, flight in connection.execute(select(tickets.c.trip_id, tickets.c.flight)):
        now = last.get(trip_id)
        if now is not None and flight != now.new_flight:
            yield f"{now.reference} is on {now.new_flight} and has a ticket of {flight}"


def _reactions(connection: Connection, found: Disrupted, trips: Sequence[Trip]) -> Iterator[str]:
    """A row for each who was rebooked and none for any other, a night more, and a day more."""
    rebooked = _trips_on(found.rebooked)
    things = {
        "a note of the disruption": select(disruptions.c.trip_id, disruptions.c.flight),
        "miles for waiting": select(goodwill.c.trip_id, goodwill.c.flight),
        "seats on hold": select(bookings.c.trip_id, bookings.c.flight).where(bookings.c.on_hold),
    }
    for what, statement in things.items():
        for trip_id, flight in sorted(_pairs(connection, statement) ^ rebooked):
            yield f"trip {trip_id} on {flight} has {what} and was not rebooked, or has none and was"
    stays = dict(
        connection.execute(
            select(rooms.c.trip_id, func.max(rooms.c.nights))
            .where(rooms.c.trip_id.is_not(None))
            .group_by(rooms.c.trip_id)
        ).all()
    )
    rents = dict(
        connection.execute(
            select(fleet.c.trip_id, fleet.c.days).where(fleet.c.trip_id.is_not(None))
        ).all()
    )
    more = Counter(disruption.trip_id for disruption in found.rebooked)
    disrupted = {disruption.trip_id for disruption, _ in found.ended}
    for trip in trips:
        if trip.trip_id not in disrupted:
            continue
        nights, days = trip.nights, max(trip.nights, 1)
        if trip.nights and stays.get(trip.trip_id) != nights + more[trip.trip_id]:
            yield f"{trip.reference} stays {stays.get(trip.trip_id)} nights"
        if trip.wants_car and rents.get(trip.trip_id) != days + more[trip.trip_id]:
            yield f"{trip.reference} has a car for {rents.get(trip.trip_id)} days"


def _unreported(connection: Connection, found: Disrupted) -> Iterator[str]:
    """Each traveller was told once of each, and of those who then stayed it is reported."""
    told = Counter(connection.scalars(select(sent.c.trip_id)))
    expected = Counter(disruption.trip_id for disruption, _ in found.ended)
    if told != expected:
        yield f"{told.total()} messages were sent of {expected.total()} disruptions"
    if found.still_standing != len(found.undone):
        yield (
            f"{found.still_standing} messages are reported, and {len(found.undone)} were of trips "
            "that stayed"
        )


def _trips_on(disruptions: Iterable[Disruption]) -> set[tuple[UUID, str]]:
    return {(disruption.trip_id, disruption.flight) for disruption in disruptions}


def _pairs(connection: Connection, statement: Executable) -> set[tuple[UUID, str]]:
    return {(trip_id, flight) for trip_id, flight in connection.execute(statement)}
