"""Subjects: the sagas that runs are about, and what has to hold of each beyond what any fulfils."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from saga import Saga
from tests.chaos import acts, effects, tour_checks
from tests.chaos.booking import CHAOS_TRIP
from tests.chaos.effects import ByStep, Ended
from tests.chaos.gateway import Call
from tests.chaos.partner_server import Order
from tests.chaos.tour import CHAOS_TOUR, prices
from tests.chaos.trips import Trip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known from outside the tables."""

    trips: Sequence[Trip]
    #: Starts that were acknowledged: business key to saga.
    acknowledged: Mapping[str, UUID]
    #: Keys for which a repeated start gave another saga.
    contradicted: frozenset[str] = frozenset()
    calls: Sequence[Call] = ()
    #: Sagas whose cancelling was acknowledged.
    cancelled: frozenset[UUID] = frozenset()
    #: What the partner was ordered.
    orders: Sequence[Order] = field(default=())


@dataclass(frozen=True, slots=True)
class Facts:
    """What the judges are given."""

    connection: Connection
    #: All databases with effects.
    everywhere: Sequence[Connection]
    schema: str
    ended: Mapping[str, Ended]
    effects: ByStep
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Subject:
    """The saga of a run."""

    saga: Saga[Any]
    #: Names of checks, with what does not hold.
    problems: Callable[[Facts], Mapping[str, Iterable[str]]]
    #: How many effects happened more than once.
    doubled: Callable[[Facts], int]


def _of_trips(facts: Facts) -> Mapping[str, Iterable[str]]:
    trips, ended = facts.evidence.trips, facts.ended
    return {
        "outcomes_as_decided": acts.wrong_outcomes(facts.connection, facts.schema, trips, ended),
        "effects_exact": (
            line
            for trip in trips
            for line in effects.wrong_effects(trip, ended.get(trip.reference), facts.effects)
        ),
        "effects_ordered_by_their_sagas": effects.foreign_effects(trips, ended, facts.effects),
        "money_conserved": effects.wrong_money(facts.everywhere, trips, ended, effects.prices),
        "gateway_calls_exact": effects.wrong_calls(trips, ended, facts.evidence.calls),
    }


def _of_tours(facts: Facts) -> Mapping[str, Iterable[str]]:
    trips, ended, orders = facts.evidence.trips, facts.ended, facts.evidence.orders
    return {
        "outcomes_as_decided": tour_checks.wrong_outcomes(
            facts.connection, facts.schema, trips, ended
        ),
        "effects_exact": (
            line
            for trip in trips
            for line in tour_checks.wrong_effects(trip, ended.get(trip.reference), facts.effects)
        ),
        "effects_ordered_by_their_sagas": tour_checks.foreign_effects(trips, ended, facts.effects),
        "money_conserved": effects.wrong_money(facts.everywhere, trips, ended, prices),
        "gateway_calls_exact": effects.wrong_calls(trips, ended, facts.evidence.calls),
        "one_order_per_key": tour_checks.unlike_orders(orders),
        "one_effect_per_intent": tour_checks.done_twice(orders),
        "undos_know_what_they_undo": tour_checks.blind_undos(orders),
        "partner_agrees": tour_checks.wrong_balance(trips, ended, orders),
    }


def _doubled_trips(facts: Facts) -> int:
    return effects.doubled(facts.evidence.trips, facts.effects)


def _doubled_tours(facts: Facts) -> int:
    return len(list(tour_checks.done_twice(facts.evidence.orders)))


TRIPS = Subject(CHAOS_TRIP, _of_trips, _doubled_trips)
TOURS = Subject(CHAOS_TOUR, _of_tours, _doubled_tours)
