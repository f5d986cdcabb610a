"""Checks of tours: their outcomes, effects and money, and the partner's own log.

An operator may have had steps of a tour done again, so each effect may have been undone and done
any number of times; but what the partner did is looked at order by order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID, uuid5

from sqlalchemy import Connection, text

from tests.chaos.effects import ByStep, Ended
from tests.chaos.partner_server import Order
from tests.chaos.tour import prices
from tests.chaos.trips import Trip

_STEPS = ("car", "deposit", "insurance", "voucher", "payment", "documents", "miles")
#: Those that no tour goes back behind.
_FOR_GOOD = frozenset({"payment", "documents", "miles"})

#: The saga's step under whose command each effect happens, where the names differ.
_UNDER = {"miles": "payment"}

#: More often than this nobody has a step done again.
_GENERATIONS = 60

_CANCELLED = "SELECT DISTINCT saga_id FROM {schema}.audit WHERE act = 'cancelled'"
_GIVEN_UP = """
SELECT DISTINCT i.saga_id FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE o.kind = 'saga.timed_out' AND i.position IS NOT NULL
"""

Key = tuple[str, str]


def wrong_outcomes(
    connection: Connection, schema: str, trips: Sequence[Trip], ended: Mapping[str, Ended]
) -> Iterator[str]:
    """Tell of tours that ended otherwise than their data, a deadline or an operator decided."""
    turned: set[UUID] = set()
    for query in (_CANCELLED, _GIVEN_UP):
        turned |= set(connection.execute(text(query.format(schema=schema))).scalars())
    for trip in trips:
        saga = ended.get(trip.reference)
        status = saga.status if saga else "never begun"
        right = {"compensated"} if trip.refused_by else {"completed"}
        if saga and saga.saga_id in turned:
            right.add("compensated")
        if status not in right:
            yield f"{trip.reference} should be {' or '.join(sorted(right))}, and is {status}"


def wrong_effects(trip: Trip, ended: Ended | None, effects: ByStep) -> Iterator[str]:
    """Tell what a tour did too often, too rarely, or in the wrong order."""
    status = ended.status if ended else "never begun"
    for step in _STEPS:
        ops = [effect.op for effect in effects.get((trip.trip_id, step), ())]
        by_turns = ops == [("do", "undo")[place % 2] for place in range(len(ops))]
        stands = bool(len(ops) % 2)
        once = step not in _FOR_GOOD or len(ops) <= 1
        right = stands == (status == "completed" and step in prices(trip))
        if not (by_turns and once and (right or status == "stuck")):
            yield f"{trip.reference} is {status}, and {step} was: {', '.join(ops) or 'never done'}"


def foreign_effects(
    trips: Sequence[Trip], ended: Mapping[str, Ended], effects: ByStep
) -> Iterator[str]:
    """Tell of effects that belong to no tour, or not to a command of its saga."""
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
            made = (
                uuid5(saga.saga_id, f"{under}:{phase}:{number}")
                for number in range(1, _GENERATIONS)
            )
            if effect.saga_id != saga.saga_id or effect.root_id not in set(made):
                yield f"{effect.op} {step} of {trip_id} was not ordered by its saga's command"


def unlike_orders(orders: Iterable[Order]) -> Iterator[str]:
    """Tell of keys that were used for two different orders, or for two effects."""
    first: dict[str, Order] = {}
    for order in orders:
        known = first.setdefault(order.key, order)
        if (known.op, known.trip, known.step) != (order.op, order.trip, order.step):
            yield f"the key {order.key} was used for {known.op} {known.step} and {order.op} {order.step}"
        elif known.cents != order.cents:
            yield f"the key {order.key} was used for {known.cents} and for {order.cents} cents"
        elif known.undoes != order.undoes:
            yield f"the key {order.key} undid {known.undoes}, and then {order.undoes}"
        elif known is not order and order.outcome != "repeat":
            yield f"the key {order.key} had two effects"


def done_twice(orders: Iterable[Order]) -> Iterator[str]:
    """Tell of what was done under another key while it stood already: of one intent, two effects."""
    standing: defaultdict[Key, set[str]] = defaultdict(set)
    for order in orders:
        keys = standing[order.trip, order.step]
        if order.outcome != "done":
            continue
        if order.op == "do":
            if keys:
                yield (
                    f"{order.step} of {order.trip} was done under the key {order.key}, and stood "
                    f"already under {', '.join(sorted(keys))}"
                )
            keys.add(order.key)
        elif order.undoes is None:
            keys.clear()
        else:
            keys.discard(order.undoes)


def blind_undos(orders: Sequence[Order]) -> Iterator[str]:
    """Tell of undos that were not told what they undo, or of one thing while another stood.

    A call that did not get through is undone under its own key as well, which was never ordered.
    """
    standing: defaultdict[Key, set[str]] = defaultdict(set)
    for order in orders:
        keys = standing[order.trip, order.step]
        if order.op == "do":
            if order.outcome == "done":
                keys.add(order.key)
        elif order.outcome == "repeat":
            continue
        elif order.undoes is None:
            yield f"{order.step} of {order.trip} was undone, and it was not told what"
        elif keys and order.undoes not in keys:
            yield (
                f"{order.step} of {order.trip} was done under {', '.join(sorted(keys))}, and "
                f"{order.undoes} was undone"
            )
        else:
            keys.discard(order.undoes)


def wrong_balance(
    trips: Sequence[Trip], ended: Mapping[str, Ended], orders: Iterable[Order]
) -> Iterator[str]:
    """Tell of tours for which the partner has more, or less, than is due."""
    balance: defaultdict[Key, int] = defaultdict(int)
    for order in orders:
        if order.outcome == "done":
            balance[order.trip, order.step] += order.cents if order.op == "do" else -order.cents
    known = {str(trip.trip_id) for trip in trips}
    for stranger in {trip for trip, _ in balance} - known:
        yield f"the partner acted for {stranger}, and nobody asked for that"
    for trip in trips:
        saga = ended.get(trip.reference)
        if saga is None or saga.status not in ("completed", "compensated"):
            continue
        for step in ("deposit", "insurance"):
            due = prices(trip)[step] if saga.status == "completed" else 0
            has = balance[str(trip.trip_id), step]
            if has != due:
                yield f"{trip.reference} is {saga.status}: the partner has {has} for {step}, due {due}"
