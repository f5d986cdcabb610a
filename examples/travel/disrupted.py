"""Disrupted: what became of trips whose flight was cancelled, told from the tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from examples.travel.checks import COMPENSATED, COMPLETED, Check, judge
from examples.travel.contexts import cars, documents, hotels, loyalty, notifications
from examples.travel.contexts.flights import departures, reservations
from examples.travel.contexts.rebooking import disruptions
from examples.travel.disruption import REBOOK_TRIP
from examples.travel.trips import Trip

_ENDED = """
SELECT key, status, data ->> 'new_flight' AS new_flight FROM {schema}.saga WHERE name = :name
"""

# Steps that were over because everything that they had set off was done.
_SETTLED = """
SELECT count(DISTINCT o.saga_id) FROM {schema}.outbox AS o
JOIN {schema}.outbox AS command ON command.id = o.root_id
WHERE o.kind = 'saga.settled' AND command.kind = 'flights.disrupt'
"""

_STANDING = """
SELECT count(*) FROM {schema}.outbox AS o JOIN {schema}.inbox AS i ON i.message_id = o.id
WHERE o.kind = 'saga.undo' AND i.last_error LIKE 'stands: %'
"""


@dataclass(frozen=True, slots=True)
class Disrupted:
    """How the trips ended whose flight was cancelled."""

    trips: Sequence[Trip]
    #: Reference of a trip to the status of its saga `rebook_trip`.
    statuses: Mapping[str, str]
    #: Reference of a trip to the flight that it is rebooked to.
    new_flights: Mapping[str, str]
    settled: int
    #: Reactions that could not be undone.
    still_standing: int

    @property
    def rebooked(self) -> list[Trip]:
        """Those that leave later, as they are booked now."""
        return [
            trip.model_copy(update={"flight": self.new_flights[trip.reference]})
            for trip in self.trips
            if self.statuses.get(trip.reference) == COMPLETED
        ]

    @property
    def undone(self) -> list[Trip]:
        """Those for which no later flight had seats."""
        return [t for t in self.trips if self.statuses.get(t.reference) == COMPENSATED]

    def as_booked_now(self, trips: Sequence[Trip]) -> list[Trip]:
        """Return all trips, the rebooked ones with their new flights."""
        now = {trip.reference: trip for trip in self.rebooked}
        return [now.get(trip.reference, trip) for trip in trips]


def read_disrupted(connection: Connection, schema: str, trips: Sequence[Trip]) -> Disrupted:
    """Read what became of these trips."""
    rows = connection.execute(text(_ENDED.format(schema=schema)), {"name": REBOOK_TRIP.name}).all()
    return Disrupted(
        trips=trips,
        statuses={row.key: row.status for row in rows},
        new_flights={row.key: row.new_flight for row in rows if row.new_flight},
        settled=connection.scalar(text(_SETTLED.format(schema=schema))) or 0,
        still_standing=connection.scalar(text(_STANDING.format(schema=schema))) or 0,
    )


def check_disrupted(connection: Connection, found: Disrupted) -> tuple[Check, ...]:
    """Check that each of these trips was rebooked whole, or left as it was."""
    rebooked = {trip.trip_id: trip for trip in found.rebooked}
    problems = {
        "trips_were_disrupted": _none(found),
        "every_disrupted_trip_is_rebooked_or_undone": _not_over(found),
        "rebooked_trips_leave_later_for_the_same_place": _wrong_flights(connection, found),
        "rebooked_trips_have_tickets_of_their_new_flight": _wrong_tickets(connection, rebooked),
        "who_waits_was_looked_after_and_nobody_else": _reactions(connection, found),
        "what_cannot_be_undone_is_reported": _unreported(connection, found),
    }
    return tuple(judge(name, lines) for name, lines in problems.items())


def _none(found: Disrupted) -> Iterator[str]:
    """Where nothing was disrupted nothing was tried, so it must not look like a success."""
    if not found.trips:
        yield (
            "no trip was on a flight that is cancelled after noon; book more with --trips, "
            "on a day that has such flights"
        )


def _not_over(found: Disrupted) -> Iterator[str]:
    for trip in found.trips:
        status = found.statuses.get(trip.reference, "unknown")
        if status not in (COMPLETED, COMPENSATED):
            yield f"{trip.reference} is {status}"
    if found.settled != len(found.trips):
        yield f"{found.settled} of {len(found.trips)} were settled before a flight was looked for"


def _wrong_flights(connection: Connection, found: Disrupted) -> Iterator[str]:
    flights = {row.flight: row for row in connection.execute(select(departures))}
    for trip in found.trips:
        new = found.new_flights.get(trip.reference)
        if new is None:
            continue
        old, later = flights[trip.flight], flights[new]
        if not (later.departs > old.departs and later.destination == old.destination):
            yield f"{trip.reference} was on {trip.flight} and is on {new}"
        if later.cancelled or later.cancelled_late:
            yield f"{trip.reference} is on {new}, which is cancelled too"


def _wrong_tickets(connection: Connection, rebooked: Mapping[UUID, Trip]) -> Iterator[str]:
    issued = select(documents.tickets.c.trip_id, documents.tickets.c.flight)
    for trip_id, flight in connection.execute(issued):
        trip = rebooked.get(trip_id)
        if trip is not None and flight != trip.flight:
            yield f"{trip.reference} is on {trip.flight} and has a ticket of {flight}"


def _reactions(connection: Connection, found: Disrupted) -> Iterator[str]:
    """A row for each rebooked trip and none for any other, a night more, and a day more."""
    noted = set(connection.scalars(select(disruptions.c.trip_id)))
    given = set(connection.scalars(select(loyalty.goodwill.c.trip_id)))
    stays = dict(
        connection.execute(
            select(hotels.rooms.c.trip_id, func.max(hotels.rooms.c.nights))
            .where(hotels.rooms.c.trip_id.is_not(None))
            .group_by(hotels.rooms.c.trip_id)
        ).all()
    )
    rents = dict(
        connection.execute(
            select(cars.fleet.c.trip_id, cars.fleet.c.days).where(cars.fleet.c.trip_id.is_not(None))
        ).all()
    )
    rebooked = {trip.trip_id for trip in found.rebooked}
    for what, rows in (("a note of the disruption", noted), ("miles for waiting", given)):
        for trip_id in sorted(rows ^ rebooked):
            yield f"trip {trip_id} has {what} and was not rebooked, or has none and was"
    for trip in found.trips:
        more = int(trip.trip_id in rebooked)
        if trip.nights and stays.get(trip.trip_id) != trip.nights + more:
            yield f"{trip.reference} stays {stays.get(trip.trip_id)} nights"
        if trip.wants_car and rents.get(trip.trip_id) != max(trip.nights, 1) + more:
            yield f"{trip.reference} has a car for {rents.get(trip.trip_id)} days"


def _unreported(connection: Connection, found: Disrupted) -> Iterator[str]:
    """Each traveller was told once, and of those who then stayed it is reported."""
    told = sorted(connection.scalars(select(notifications.sent.c.trip_id)))
    if told != sorted(trip.trip_id for trip in found.trips):
        yield f"{len(told)} messages were sent to {len(found.trips)} disrupted trips"
    standing = connection.scalar(
        select(func.count())
        .select_from(notifications.sent)
        .where(notifications.sent.c.trip_id.in_([trip.trip_id for trip in found.undone]))
    )
    if standing != found.still_standing:
        yield f"{standing} messages of trips that stayed, and {found.still_standing} are reported"


def still_booked(connection: Connection, late: Sequence[str], trips: Sequence[Trip]) -> list[Trip]:
    """Return the trips that hold seats on these flights, by the hour at which those were to leave."""
    rows = connection.execute(
        select(reservations.c.trip_id)
        .join(departures, departures.c.flight == reservations.c.flight)
        .where(~reservations.c.released, reservations.c.flight.in_(late))
        .order_by(departures.c.departs, reservations.c.number)
    )
    known = {trip.trip_id: trip for trip in trips}
    return [known[trip_id] for (trip_id,) in rows]
