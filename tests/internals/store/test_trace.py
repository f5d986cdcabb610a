"""The causal tree of a saga, and of messages that no saga knows."""

from collections.abc import Callable
from dataclasses import astuple
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from boundary import Runtime
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.delivery import DeliveryState
from internals.store.trace import Trace, trace, trace_message
from saga import DefinitionError, Retry
from saga.envelope import Category
from tests.internals.store.traced_trips import (
    BOOK,
    Reserved,
    Trip,
    a_chain,
    by_kind,
    flights,
    handled,
    loyalty,
    message,
    payments,
    run,
    seating,
    sent,
    shape,
)


@pytest.fixture
def agency(runtime: Callable[..., Runtime]) -> Runtime:
    """A runtime whose subscriptions are recorded."""
    made = runtime([BOOK], [flights, seating, loyalty, payments])
    made.subscribe()
    return made


@pytest.fixture
def book(agency: Runtime) -> Callable[[int], UUID]:
    """Start a saga and run it as far as it goes."""

    def book(number: int) -> UUID:
        with agency.engine.begin() as connection:
            id = agency.start(connection, BOOK, Trip(number=number))
        run(agency)
        return id

    return book


def test_a_saga_is_one_tree_over_both_halves(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    id = book(-1)
    with engine.connect() as connection:
        found = trace(SqlAlchemyUnitOfWork(connection), schema, id)
    assert shape(found) == [
        (0, "saga.started"),
        (1, "flights.reserve"),
        (2, "flights.reserved"),
        (3, "seating.assigned"),
        (4, "payments.charge"),
        (5, "saga.rejected"),
        (6, "flights.cancel"),
        (7, "saga.done"),
    ]
    assert not found.truncated
    nodes = by_kind(found)
    assert {node.saga_id for node in nodes.values()} == {id}
    assert nodes["flights.reserve"].category is Category.COMMAND
    assert nodes["flights.reserved"].category is Category.EVENT
    assert nodes["saga.done"].category is Category.REPLY
    assert nodes["flights.reserve"].sender == "saga.book"
    assert nodes["saga.started"].sender is None
    assert nodes["seating.assigned"].root_id == nodes["flights.reserve"].id


def test_a_node_tells_what_became_of_each_delivery(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    id = book(-1)
    with engine.connect() as connection:
        found = trace(SqlAlchemyUnitOfWork(connection), schema, id)
    nodes = by_kind(found)
    assert found.at is not None
    for node in nodes.values():
        for delivery in node.deliveries:
            assert delivery.state is DeliveryState.DONE
            assert delivery.done_at is not None
            assert node.sent_at <= delivery.done_at <= found.at
            assert (delivery.attempts, delivery.rings) == (0, 0)
    reserved = [delivery.consumer for delivery in nodes["flights.reserved"].deliveries]
    assert sorted(reserved) == ["loyalty", "seating"]
    consumed = [
        delivery.position
        for _, node in found.walk()
        for delivery in node.deliveries
        if delivery.consumer == "saga.book"
    ]
    assert consumed == [1, 2, 3, 4]
    assert nodes["payments.charge"].deliveries[0].last_error == "rejected: nothing to charge"


def test_a_parked_delivery_shows_its_attempts_and_its_error(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    id = book(13)
    with engine.connect() as connection:
        nodes = by_kind(trace(SqlAlchemyUnitOfWork(connection), schema, id))
    [parked] = nodes["payments.charge"].deliveries
    assert (parked.state, parked.attempts) == (DeliveryState.PARKED, 2)
    assert parked.last_error == "RuntimeError: no luck"
    assert [child.kind for child in nodes["payments.charge"].children] == ["saga.faulted"]


def test_what_was_done_says_what_it_waited_for(
    engine: Engine, schema: str, agency: Runtime, outside: Any
) -> None:
    """Doorbells are lost, and the relay rings once more; a worker comes after that."""
    with agency.engine.begin() as connection:
        id = agency.publish(connection, Reserved(number=1))
    broker: Any = agency._wiring.broker
    broker.client.delete(f"{broker.namespace}:doorbell:loyalty")
    outside.execute("UPDATE inbox SET ring_at = now() WHERE consumer = 'loyalty'")
    agency._worker_loop.relay().look()
    run(agency)
    with engine.connect() as connection:
        [node] = trace_message(SqlAlchemyUnitOfWork(connection), schema, id).roots
    rung, quiet = sorted(node.deliveries, key=lambda delivery: delivery.consumer)
    for delivery in (rung, quiet):
        assert delivery.waits is not None
        assert delivery.done_at is not None
        whole = (delivery.done_at - node.sent_at).total_seconds()
        assert sum(astuple(delivery.waits)) == pytest.approx(whole, abs=1e-5)
        assert delivery.waits.queue > 0
        assert delivery.waits.handler == delivery.took
    assert rung.waits is not None
    assert rung.waits.outbox > 0
    assert quiet.waits is not None
    assert quiet.waits.outbox == 0


def test_of_what_is_parked_or_dropped_nothing_is_said(
    engine: Engine, schema: str, agency: Runtime, book: Callable[[int], UUID]
) -> None:
    id = book(13)
    with engine.connect() as connection:
        nodes = by_kind(trace(SqlAlchemyUnitOfWork(connection), schema, id))
    [parked] = nodes["payments.charge"].deliveries
    assert parked.waits is None
    with agency.engine.begin() as connection:
        unit = SqlAlchemyUnitOfWork(connection)
        ids = [nodes["payments.charge"].id]
        agency._administration.acts.parked.drop(unit, ids, actor="ann", reason="tried")
        again = trace(unit, schema, id)
    assert by_kind(again)["payments.charge"].deliveries[0].waits is None


def test_what_failed_once_was_due_when_it_was_tried_again(
    schema: str, runtime: Callable[..., Runtime]
) -> None:
    ran: list[int] = []
    doors = Context("doors")

    @doors.reacts_to(Reserved, retry=Retry(attempts=2, backoff=timedelta(0)))
    def open_door(event: Reserved, work: Work) -> None:
        ran.append(event.number)
        if len(ran) == 1:
            raise RuntimeError("stuck")

    made = runtime([], [doors])
    node = handled(made, schema)
    assert node.deliveries[0].waits is not None
    assert node.deliveries[0].waits.due > 0


def test_what_acts_outside_was_due_before_its_lease(
    schema: str, runtime: Callable[..., Runtime]
) -> None:
    gates = Context("gates")

    @gates.reacts_to(Reserved, external=True)
    def open_gate(event: Reserved, work: Work) -> None:
        work.begin()

    made = runtime([], [gates])
    node = handled(made, schema)
    [delivery] = node.deliveries
    assert delivery.waits is not None
    assert delivery.done_at is not None
    assert delivery.waits.due == 0
    whole = (delivery.done_at - node.sent_at).total_seconds()
    assert sum(astuple(delivery.waits)) == pytest.approx(whole, abs=1e-5)


def test_what_is_sent_again_is_dropped_and_says_so(engine: Engine, schema: str) -> None:
    first, other = message("flights.reserved"), message("flights.reserved")
    with sent(engine, schema, first, other):
        pass
    with sent(engine, schema, first, first, message("flights.reserved")):
        pass
    with sent(engine, schema, first) as connection:
        found = [
            trace_message(SqlAlchemyUnitOfWork(connection), schema, each.id).roots[0].repeats
            for each in (first, other)
        ]
    assert found == [3, 0]


def test_a_pending_delivery_has_no_end(engine: Engine, schema: str, agency: Runtime) -> None:
    with agency.engine.begin() as connection:
        id = agency.start(connection, BOOK, Trip(number=1))
    run(agency, "flights")
    with engine.connect() as connection:
        nodes = by_kind(trace(SqlAlchemyUnitOfWork(connection), schema, id))
    states = {d.consumer: (d.state, d.done_at) for d in nodes["flights.reserved"].deliveries}
    assert states == {
        "loyalty": (DeliveryState.PENDING, None),
        "seating": (DeliveryState.PENDING, None),
    }


def test_a_saga_holds_nothing_of_another(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    first, second = book(1), book(2)
    with engine.connect() as connection:
        one, two = (
            trace(SqlAlchemyUnitOfWork(connection), schema, first),
            trace(SqlAlchemyUnitOfWork(connection), schema, second),
        )
    assert shape(one) == shape(two)
    assert not {node.id for _, node in one.walk()} & {node.id for _, node in two.walk()}


def test_siblings_stand_in_order_of_sending(engine: Engine, schema: str) -> None:
    root = message("flights.reserve")
    children = [message(f"seating.number_{i}", cause=root) for i in range(20)]
    with sent(engine, schema, root, *children) as connection:
        found = trace_message(SqlAlchemyUnitOfWork(connection), schema, root.id)
    assert [node.id for node in found.roots[0].children] == [child.id for child in children]


def test_a_message_outside_sagas_shows_the_whole_tree_it_is_in(
    engine: Engine, schema: str, agency: Runtime
) -> None:
    with agency.engine.begin() as connection:
        id = agency.publish(connection, Reserved(number=1))
        agency.publish(connection, Reserved(number=2))
    run(agency)
    with engine.connect() as connection:
        found = trace_message(SqlAlchemyUnitOfWork(connection), schema, id)
        leaf = found.roots[0].children[0]
        again = trace_message(SqlAlchemyUnitOfWork(connection), schema, leaf.id)
    assert shape(found) == [(0, "flights.reserved"), (1, "seating.assigned")]
    assert found.roots[0].saga_id is None
    assert leaf.deliveries == ()
    assert again.roots == found.roots


def test_a_message_of_a_saga_shows_its_step_and_what_followed(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    id = book(1)
    with engine.connect() as connection:
        assigned = by_kind(trace(SqlAlchemyUnitOfWork(connection), schema, id))["seating.assigned"]
        found = trace_message(SqlAlchemyUnitOfWork(connection), schema, assigned.id)
    assert shape(found)[:3] == [(0, "flights.reserve"), (1, "flights.reserved"), (2, assigned.kind)]
    assert shape(found)[-1] == (4, "saga.done")


def test_what_nobody_sent_has_an_empty_trace(engine: Engine, schema: str) -> None:
    with engine.connect() as connection:
        assert trace(SqlAlchemyUnitOfWork(connection), schema, uuid4()) == Trace(())
        assert trace_message(SqlAlchemyUnitOfWork(connection), schema, uuid4()) == Trace(())


def test_what_caused_a_message_may_be_gone(
    engine: Engine, schema: str, book: Callable[[int], UUID]
) -> None:
    id = book(1)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM outbox WHERE kind = 'flights.reserve'"))
        found = trace(SqlAlchemyUnitOfWork(connection), schema, id)
        leaf = trace_message(
            SqlAlchemyUnitOfWork(connection), schema, by_kind(found)["flights.reserved"].id
        )
    assert [root.kind for root in found.roots] == ["saga.started", "flights.reserved"]
    assert leaf.roots[0].kind == "flights.reserved"


@pytest.mark.parametrize("of_saga", [True, False])
def test_a_long_trace_is_cut_at_its_end(engine: Engine, schema: str, of_saga: bool) -> None:
    saga_id = uuid4()
    chain = a_chain(30, saga_id)
    read: Any = trace if of_saga else trace_message
    id = saga_id if of_saga else chain[0].id
    with sent(engine, schema, *chain) as connection:
        cut, whole = (
            read(SqlAlchemyUnitOfWork(connection), schema, id, 10),
            read(SqlAlchemyUnitOfWork(connection), schema, id, 30),
        )
    assert [node.id for _, node in cut.walk()] == [link.id for link in chain[:10]]
    assert (cut.truncated, whole.truncated) == (True, False)
    assert len(shape(whole)) == 30


def test_a_chain_may_be_deeper_than_python_can_recurse(engine: Engine, schema: str) -> None:
    chain = a_chain(3000, uuid4())
    with sent(engine, schema, *chain) as connection:
        found = trace_message(SqlAlchemyUnitOfWork(connection), schema, chain[-1].id)
    assert [depth for depth, _ in found.walk()] == list(range(3000))


def test_a_schema_name_that_is_none_is_refused(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(DefinitionError, match="identifier"):
        trace(SqlAlchemyUnitOfWork(connection), 'x"; --', uuid4())
