"""Checks: whether anything was lost or done twice, told from the tables of the contexts.

The framework's word is taken for one thing only: how each saga ended, to know what to expect.
Run them when all deliveries are done; before that, seats that were given up are still occupied.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from examples.travel.contexts.loyalty import miles
from examples.travel.contexts.payments import AGENCY
from examples.travel.found import ByTrip, Found, read_found
from examples.travel.trips import Trip

COMPLETED = "completed"
COMPENSATED = "compensated"

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked."""

    name: str
    ok: bool
    #: What is wrong; empty when nothing is.
    detail: str = ""


def check(
    connection: Connection, trips: Sequence[Trip], statuses: Mapping[str, str]
) -> tuple[Check, ...]:
    """Check the tables of all contexts against the trips that were asked for.

    Args:
        connection: Only read from.
        trips: All trips that ever were booked in these tables.
        statuses: Reference of a trip to the final status of its saga.
    """
    completed = [trip for trip in trips if statuses.get(trip.reference) == COMPLETED]
    compensated = [trip for trip in trips if statuses.get(trip.reference) == COMPENSATED]
    found = read_found(connection)
    problems: Mapping[str, Iterator[str]] = {
        "every_trip_is_over": _not_over(trips, statuses),
        "seats_conserved": _seats(found),
        "no_seat_on_a_cancelled_flight": _seats_on_cancelled(found),
        "rooms_conserved": _taken(found.hotels, completed, lambda trip: trip.rooms_wanted),
        "cars_conserved": _taken(found.cars, completed, lambda trip: int(trip.wants_car)),
        "money_conserved": _money(found, completed),
        "compensated_trips_left_nothing": _left_behind(found, compensated),
        "completed_trips_have_exactly_one_of_each": _incomplete(found, completed),
        "no_rows_of_unknown_trips": _unknown(found, trips),
    }
    return tuple(judge(name, lines) for name, lines in problems.items())


def judge(name: str, lines: Iterable[str]) -> Check:
    """Return a check that failed if there is any line; the first few become its detail."""
    problems = list(lines)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Check(name, not problems, "; ".join(problems[:_SHOWN]) + more)


def _not_over(trips: Iterable[Trip], statuses: Mapping[str, str]) -> Iterator[str]:
    for trip in trips:
        status = statuses.get(trip.reference, "unknown")
        if status not in (COMPLETED, COMPENSATED):
            yield f"{trip.reference} is {status}"


def _seats(found: Found) -> Iterator[str]:
    """Sold, reserved and occupied seats of a flight are as many, and its aircraft has them."""
    for flight in sorted({*found.sold, *found.reserved, *found.occupied}):
        sold, reserved, occupied = (
            seats.get(flight, 0) for seats in (found.sold, found.reserved, found.occupied)
        )
        if not sold == reserved == occupied:
            yield f"{flight}: {sold} seats sold, {reserved} reserved, {occupied} occupied"
        capacity = found.capacity.get(flight, 0)
        if max(sold, reserved, occupied) > capacity:
            yield f"{flight}: {max(sold, reserved, occupied)} seats taken of {capacity}"


def _seats_on_cancelled(found: Found) -> Iterator[str]:
    for flight in sorted({*found.sold, *found.reserved, *found.occupied} & found.cancelled):
        yield f"{flight} was cancelled and has seats taken"


def _taken(rows: ByTrip, completed: Iterable[Trip], wanted: Callable[[Trip], int]) -> Iterator[str]:
    """At each destination so many are taken as completed trips want there."""
    taken = Counter(destination for places in rows.values() for (destination,) in places)
    expected: Counter[str] = Counter()
    for trip in completed:
        expected[trip.destination] += wanted(trip)
    for destination in sorted({*taken, *expected}):
        if taken[destination] != expected[destination]:
            yield f"{destination}: {taken[destination]} taken, {expected[destination]} expected"


def _money(found: Found, completed: Iterable[Trip]) -> Iterator[str]:
    lines = [
        (trip, account, cents) for trip, rows in found.payments.items() for account, cents in rows
    ]
    if total := sum(cents for _, _, cents in lines):
        yield f"the ledger's sum is {total} cents, not zero"
    for trip_id, rows in found.payments.items():
        if total := sum(cents for _, cents in rows):
            yield f"the lines of trip {trip_id} add up to {total} cents, not zero"
    agency = sum(cents for _, account, cents in lines if account == AGENCY)
    expected = sum(trip.amount_cents for trip in completed)
    if agency != expected:
        yield f"the agency has {agency} cents and completed trips cost {expected}"


def _left_behind(found: Found, compensated: Iterable[Trip]) -> Iterator[str]:
    for trip in compensated:
        for context, rows in found.by_context.items():
            if rows.get(trip.trip_id):
                yield f"{trip.reference} was compensated and has rows left in {context}"


def _incomplete(found: Found, completed: Iterable[Trip]) -> Iterator[str]:
    for trip in completed:
        seats = found.seating.get(trip.trip_id, ())
        rooms = ((trip.destination,),) * trip.rooms_wanted
        cars = ((trip.destination,),) * trip.wants_car
        charge = ((trip.traveller, -trip.amount_cents), (AGENCY, trip.amount_cents))
        credit = ((trip.traveller, miles(trip.amount_cents)),)
        seated = [flight for flight, label in seats if label]
        one_of_each = {
            "reservation": found.flights.get(trip.trip_id)
            == ((trip.flight, trip.travellers, trip.travellers),),
            "seat for each traveller": seated == [trip.flight] * trip.travellers,
            "room for two": found.hotels.get(trip.trip_id, ()) == rooms,
            "car": found.cars.get(trip.trip_id, ()) == cars,
            "charge": found.payments.get(trip.trip_id) == tuple(sorted(charge)),
            "credit of miles": found.loyalty.get(trip.trip_id) == credit,
            "ticket for each seat": found.documents.get(trip.trip_id) == seats,
        }
        for thing, ok in one_of_each.items():
            if not ok:
                yield f"{trip.reference} was completed without exactly one {thing}"


def _unknown(found: Found, trips: Iterable[Trip]) -> Iterator[str]:
    known = {trip.trip_id for trip in trips}
    for context, rows in found.by_context.items():
        for trip_id in sorted(rows.keys() - known):
            yield f"{context} has rows of trip {trip_id}, which nobody asked for"
