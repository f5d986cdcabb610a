"""A trip of two contexts, whose trace is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from boundary import Runtime
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.outbox import Outbox
from internals.store.sql import statements
from internals.store.trace import Node, Trace, trace_message
from saga import Command, Event, Rejected, Retry, Saga, Step
from saga.envelope import Category, Envelope


class Trip(BaseModel):
    number: int


class Reserve(Command, kind="flights.reserve"):
    number: int


class Cancel(Command, kind="flights.cancel"):
    number: int


class Reserved(Event, kind="flights.reserved"):
    number: int


class Assigned(Event, kind="seating.assigned"):
    number: int


class Charge(Command, kind="payments.charge"):
    number: int


flights, seating, loyalty, payments = map(Context, ("flights", "seating", "loyalty", "payments"))


@flights.handles(Reserve, emits=(Reserved,))
def reserve(command: Reserve, work: Work) -> None:
    work.publish(Reserved(number=command.number))


@flights.handles(Cancel)
def cancel(command: Cancel, work: Work) -> None:
    pass


@seating.reacts_to(Reserved, emits=(Assigned,))
def assign(event: Reserved, work: Work) -> None:
    work.publish(Assigned(number=event.number))


@loyalty.reacts_to(Reserved)
def greet(event: Reserved, work: Work) -> None:
    pass


@payments.handles(Charge, retry=Retry(attempts=2, backoff=timedelta(0)))
def charge(command: Charge, work: Work) -> None:
    if command.number == 13:
        raise RuntimeError("no luck")
    if command.number < 0:
        raise Rejected("nothing to charge")


BOOK = Saga(
    name="book",
    data=Trip,
    steps=(
        Step(
            "flight",
            lambda trip: Reserve(number=trip.number),
            until=Assigned,
            compensation=lambda trip: Cancel(number=trip.number),
        ),
        Step("payment", lambda trip: Charge(number=trip.number)),
    ),
)


def run(agency: Runtime, *consumers: str) -> None:
    while sum(agency.answer(consumer) for consumer in consumers or agency._wiring.consumers):
        pass


def handled(made: Runtime, schema: str) -> Node:
    """Let an event be handled; returns what the trace says of it."""
    made.subscribe()
    with made.engine.begin() as connection:
        id = made.publish(connection, Reserved(number=1))
    run(made)
    with made.engine.connect() as connection:
        [node] = trace_message(SqlAlchemyUnitOfWork(connection), schema, id).roots
    return node


def shape(found: Trace) -> list[tuple[int, str]]:
    return [(depth, node.kind) for depth, node in found.walk()]


def by_kind(found: Trace) -> dict[str, Node]:
    return {node.kind: node for _, node in found.walk()}


def a_chain(length: int, saga_id: UUID) -> list[Envelope]:
    links = [message("flights.reserve", saga_id=saga_id)]
    while len(links) < length:
        links.append(message("flights.reserved", cause=links[-1], saga_id=saga_id))
    return links


def message(kind: str, cause: Envelope | None = None, saga_id: UUID | None = None) -> Envelope:
    id = uuid4()
    return Envelope(
        id=id,
        kind=kind,
        category=Category.EVENT,
        payload="{}",
        saga_id=saga_id,
        saga="book" if saga_id else None,
        causation_id=cause.id if cause else None,
        root_id=(cause and cause.root_id) or id,
    )


@contextmanager
def sent(engine: Engine, schema: str, *messages: Envelope) -> Iterator[Connection]:
    with engine.begin() as connection:
        Outbox(statements(schema), grace=1.0).send(SqlAlchemyUnitOfWork(connection), messages)
        yield connection
