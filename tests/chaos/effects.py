"""Checks of what was done: the effects ledger, the money, and the gateway's log.

They know from each trip's data how it must end, and take nobody's word for it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from sqlalchemy import Connection, text

from tests.chaos.app import STEPS
from tests.chaos.gateway import Call
from tests.chaos.ledger import COMPANIES
from tests.chaos.trips import Trip

#: The saga's step under whose command each effect happens, where the names differ.
_UNDER = {"seating": "flight", "room": "hotel", "miles": "payment"}

_EFFECTS = """
SELECT trip_id, saga_id, step, op, root_id, cents FROM chaos_effect ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of the ledger."""

    trip_id: UUID
    saga_id: UUID
    step: str
    op: str
    root_id: UUID
    cents: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a trip's saga stands, by its own row."""

    saga_id: UUID
    status: str
    generations: Mapping[str, int]


ByStep = Mapping[tuple[UUID, str], Sequence[Effect]]


def read_effects(*connections: Connection) -> ByStep:
    """Return all effects by trip and step, in the order in which they happened.

    Those of one step are all in one database.
    """
    found: defaultdict[tuple[UUID, str], list[Effect]] = defaultdict(list)
    for connection in connections:
        for row in connection.execute(text(_EFFECTS)):
            effect = Effect(*row)
            found[effect.trip_id, effect.step].append(effect)
    return found


def expected_steps(trip: Trip) -> frozenset[str]:
    """Return the steps that a trip has when it is completed."""
    return frozenset(step for step in STEPS if step != "car" or trip.wants_car)


def wrong_effects(trip: Trip, ended: Ended | None, effects: ByStep) -> Iterator[str]:
    """Tell what a trip did too often, too rarely, or in the wrong order."""
    status = ended.status if ended else "never begun"
    for step in STEPS:
        ops = [effect.op for effect in effects.get((trip.trip_id, step), ())]
        if status == "completed":
            right = ops == (["do"] if step in expected_steps(trip) else [])
        else:
            right = ops in ([], ["do", "undo"]) or (status == "stuck" and ops == ["do"])
        if not right:
            yield f"{trip.reference} is {status}, and {step} was: {', '.join(ops) or 'never done'}"


def doubled(trips: Iterable[Trip], effects: ByStep) -> int:
    """Count the effects that happened more than once."""
    surplus = 0
    for trip in trips:
        for step in STEPS:
            ops = Counter(effect.op for effect in effects.get((trip.trip_id, step), ()))
            surplus += sum(count - 1 for count in ops.values() if count > 1)
    return surplus


def foreign_effects(
    trips: Sequence[Trip], ended: Mapping[str, Ended], effects: ByStep
) -> Iterator[str]:
    """Tell of effects that belong to no trip, or not to the command that ordered them."""
    by_id = {trip.trip_id: trip for trip in trips}
    for (trip_id, step), rows in effects.items():
        trip = by_id.get(trip_id)
        saga = ended.get(trip.reference) if trip else None
        if saga is None:
            yield f"{step} was done for {trip_id}, which nobody asked for"
            continue
        under = _UNDER.get(step, step)
        for effect in rows:
            phase = "commanded" if effect.op == "do" else "compensating"
            generation = saga.generations.get(under, 1)
            commands = {uuid5(saga.saga_id, f"{under}:{phase}:{g + 1}") for g in range(generation)}
            if effect.saga_id != saga.saga_id or effect.root_id not in commands:
                yield f"{effect.op} {step} of {trip_id} was not ordered by its saga's command"


def wrong_money(
    connections: Sequence[Connection],
    trips: Sequence[Trip],
    ended: Mapping[str, Ended],
    priced: Callable[[Trip], Mapping[str, int]],
) -> Iterator[str]:
    """Tell where money came from nothing, went to nothing, or lies with the wrong party."""
    booked: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    for connection in connections:
        yield from _wrong_accounts(connection)
        for trip_id, account, cents in connection.execute(
            text("SELECT trip_id, account, sum(cents) FROM chaos_money GROUP BY trip_id, account")
        ):
            booked[trip_id][account] += int(cents)
    for trip in trips:
        saga = ended.get(trip.reference)
        if saga is not None and saga.status in ("completed", "compensated"):
            due = _due(trip, priced(trip)) if saga.status == "completed" else {}
            got = {account: cents for account, cents in booked[trip.trip_id].items() if cents}
            if got != due:
                yield f"{trip.reference} is {saga.status}: booked {got}, due {due}"


def _wrong_accounts(connection: Connection) -> Iterator[str]:
    total = connection.scalar(text("SELECT coalesce(sum(cents), 0) FROM chaos_money"))
    if total:
        yield f"{total} cents came from nothing"
    balances = text(
        """SELECT name, a.cents, coalesce(m.cents, 0) FROM chaos_account AS a
           LEFT JOIN (SELECT account, sum(cents) AS cents FROM chaos_money GROUP BY account) AS m
               ON m.account = a.name
           WHERE a.cents <> coalesce(m.cents, 0)"""
    )
    for name, kept, booked in connection.execute(balances):
        yield f"the account of {name} has {kept} cents, and {booked} were booked"


def prices(trip: Trip) -> dict[str, int]:
    """Return the steps of a completed trip, with the cents that each costs."""
    return {step: trip.price(step) for step in expected_steps(trip)}


def _due(trip: Trip, priced: Mapping[str, int]) -> dict[str, int]:
    """What a completed trip leaves on each account."""
    paid = {COMPANIES[step]: cents for step, cents in priced.items() if step in COMPANIES}
    return {**paid, trip.traveller: -sum(paid.values())}


def wrong_calls(
    trips: Sequence[Trip], ended: Mapping[str, Ended], calls: Iterable[Call]
) -> Iterator[str]:
    """Tell where the gateway was not asked just once, under however many repeats of one key."""
    keys: defaultdict[str, dict[str, Call]] = defaultdict(dict)
    for call in calls:
        first = keys[call.trip].setdefault(call.key, call)
        if (first.cents, first.accepted) != (call.cents, call.accepted):
            yield f"the key {call.key} was used for two different charges"
    by_id = {str(trip.trip_id): trip for trip in trips}
    for stranger in keys.keys() - by_id.keys():
        yield f"the gateway charged {stranger}, which nobody asked for"
    for id, trip in by_id.items():
        charges = [call for call in keys[id].values() if call.accepted]
        saga = ended.get(trip.reference)
        if len(keys[id]) > 1:
            yield f"{trip.reference} used {len(keys[id])} keys"
        if any(call.cents != trip.price("payment") for call in charges):
            yield f"{trip.reference} was charged another amount"
        status = saga.status if saga else "never begun"
        if status != "stuck" and bool(charges) != (status == "completed"):
            yield f"{trip.reference} is {status}, and was charged {len(charges)} times"
