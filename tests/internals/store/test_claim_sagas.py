"""Claiming outcomes with their sagas: of two who come at once one has the saga."""

from typing import Any
from uuid import UUID, uuid4

from internals.database.unit_of_work import Row
from internals.store.delivery import DELIVERY_COLUMNS, delivery
from saga import Event


class Arrived(Event, kind="airport.arrived"):
    pass


def add_saga(store: Any) -> UUID:
    id = uuid4()
    store.rows(
        "INSERT INTO saga (id, name, version, status, direction, data, steps, course, consumed) "
        "VALUES (%s, 'trip', 1, 'running', 'forward', '{}', '{}', '{}', 1) RETURNING id",
        id,
    )
    return id


def with_state(rows: list[Row]) -> list[bool]:
    """Whether each delivery came with the state of its saga."""
    return [row[DELIVERY_COLUMNS] is not None for row in rows]


def test_a_saga_that_another_transaction_has_comes_without_its_state(
    store: Any, event: Any
) -> None:
    inbox, mine, held = store.inbox("saga.trip"), add_saga(store), add_saga(store)
    for id in (held, held, mine):
        store.send(event(Arrived(), recipient="saga.trip", saga="trip", saga_id=id))
    with store.transaction() as one, store.transaction() as two:
        assert with_state(inbox.claim_with_sagas(one, 1)) == [True]
        assert with_state(inbox.claim_with_sagas(two, 10)) == [False, True]


def test_those_that_others_hold_can_be_passed_over(store: Any, event: Any) -> None:
    inbox, mine, held = store.inbox("saga.trip"), add_saga(store), add_saga(store)
    for id in (held, held, mine, None):
        store.send(event(Arrived(), recipient="saga.trip", saga="trip", saga_id=id))
    with store.transaction() as unit:
        rows = inbox.claim_with_sagas(unit, 10, [held])
        assert [delivery(row).message.saga_id for row in rows] == [mine, None]
        assert len(inbox.claim_with_sagas(unit, 10)) == 4
