"""Every broker that may carry doorbells passes the same suite; RabbitMQ's where there is one.

What is promised rests on none of them: a doorbell may come twice, late, or never.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import dramatiq
import psycopg
import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary import Runtime, Settings
from boundary.doorbell.redis_broker import DOORBELL
from internals import Context, Work
from saga import Command, Rejected, Saga, Step

RABBITMQ = "SAGA_RABBITMQ_URL"


class Parcel(BaseModel):
    number: int
    heavy: bool = False


class Weigh(Command, kind="scale.weigh"):
    number: int


class Unload(Command, kind="scale.unload"):
    number: int


class Carry(Command, kind="porter.carry"):
    number: int
    heavy: bool


scale, porter = Context("scale"), Context("porter")


def write(work: Work, number: int, what: str) -> None:
    work.execute(
        "INSERT INTO carried (number, what) VALUES (%(number)s, %(what)s)",
        {"number": number, "what": what},
    )


@scale.handles(Weigh)
def weigh(command: Weigh, work: Work) -> None:
    write(work, command.number, "weighed")


@scale.handles(Unload)
def unload(command: Unload, work: Work) -> None:
    write(work, command.number, "unloaded")


@porter.handles(Carry)
def carry(command: Carry, work: Work) -> None:
    write(work, command.number, "carried")
    if command.heavy:
        raise Rejected("too heavy")


SHIP = Saga(
    "ship",
    Parcel,
    steps=(
        Step(
            "weigh",
            lambda parcel: Weigh(number=parcel.number),
            compensation=lambda parcel: Unload(number=parcel.number),
        ),
        Step("carry", lambda parcel: Carry(number=parcel.number, heavy=parcel.heavy)),
    ),
)


def own(settings: Settings) -> None:
    """The framework's broker, which it makes itself."""


def stock_redis(settings: Settings) -> dramatiq.Broker:
    assert settings.redis_url is not None
    return RedisBroker(  # type: ignore[no-untyped-call]
        url=settings.redis_url.get_secret_value(), namespace=f"{settings.namespace}:stock"
    )


def stub(settings: Settings) -> dramatiq.Broker:
    broker = StubBroker()
    broker.emit_after("process_boot")
    return broker


def rabbitmq(settings: Settings) -> dramatiq.Broker:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    return RabbitmqBroker(url=os.environ[RABBITMQ])


BROKERS = [own, stock_redis, stub, *([rabbitmq] if RABBITMQ in os.environ else [])]


class Yard:
    """A runtime whose doorbells go over one broker, with a worker of two threads."""

    def __init__(self, runtime: Runtime, outside: psycopg.Connection[Any]) -> None:
        self.runtime = runtime
        self.outside = outside
        outside.execute("CREATE TABLE carried (number int, what text)")
        self.worker: dramatiq.Worker | None = None

    def start_worker(self) -> None:
        self.worker = dramatiq.Worker(self.runtime.worker(), worker_threads=2, worker_timeout=50)
        self.worker.start()

    def stop_worker(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    def ship(self, number: int, *, heavy: bool = False) -> UUID:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, SHIP, Parcel(number=number, heavy=heavy))

    def statuses(self) -> list[str]:
        rows = self.outside.execute("SELECT status FROM saga ORDER BY started_at")
        return [status for (status,) in rows]

    def carried(self) -> list[tuple[int, str]]:
        return self.outside.execute("SELECT number, what FROM carried ORDER BY 1, 2").fetchall()

    def wipe(self) -> None:
        """Lose every doorbell that waits."""
        broker = self.runtime._wiring.broker
        for name in self.runtime._wiring.consumers:
            queue = broker.declare_doorbell(name)
            if broker.carrier is broker:
                broker.client.delete(f"{self.runtime.settings.namespace}:doorbell:{queue}")
            else:
                broker.carrier.flush(queue)


@pytest.fixture(params=BROKERS, ids=lambda broker: broker.__name__)
def yard(
    request: Any, settings: Settings, outside: psycopg.Connection[Any], engine: Engine
) -> Iterator[Yard]:
    broker = request.param(settings)
    made = Runtime(
        sagas=[SHIP],
        contexts=[scale, porter],
        settings=settings.model_copy(update={"grace": 0.2}),
        engine=engine,
        broker=broker,
    )
    yard = Yard(made, outside)
    yield yard
    yard.stop_worker()
    for name in made._wiring.consumers if broker is not None else ():
        broker.flush(made._wiring.broker.declare_doorbell(name))
    made.close()
    if broker is not None:
        broker.close()


def test_a_saga_completes_and_one_that_is_refused_is_undone(
    yard: Yard, eventually: Callable[..., Any]
) -> None:
    yard.start_worker()
    yard.ship(1)
    yard.ship(2, heavy=True)
    eventually(lambda: yard.statuses() == ["completed", "compensated"])
    assert yard.carried() == [(1, "carried"), (1, "weighed"), (2, "unloaded"), (2, "weighed")]


def test_doorbells_that_come_again_do_nothing_again(
    yard: Yard, eventually: Callable[..., Any]
) -> None:
    yard.start_worker()
    yard.ship(1)
    for _ in range(20):
        yard.runtime._wiring.broker.ring(yard.runtime._wiring.consumers)
    eventually(lambda: yard.statuses() == ["completed"])
    for _ in range(20):
        yard.runtime._wiring.broker.ring(yard.runtime._wiring.consumers)
    yard.ship(2)
    eventually(lambda: yard.statuses() == ["completed", "completed"])
    assert len(yard.carried()) == 4


def test_when_all_doorbells_are_lost_the_relay_rings(
    yard: Yard, eventually: Callable[..., Any]
) -> None:
    yard.runtime.worker()
    for number in range(5):
        yard.ship(number)
    yard.wipe()
    yard.start_worker()
    eventually(lambda: yard.statuses() == ["completed"] * 5)
    assert len(yard.carried()) == 10


def test_what_a_worker_left_the_next_one_does(yard: Yard, eventually: Callable[..., Any]) -> None:
    yard.start_worker()
    yard.ship(1)
    yard.stop_worker()
    for number in range(2, 6):
        yard.ship(number)
    yard.start_worker()
    eventually(lambda: yard.statuses() == ["completed"] * 5)
    assert len(yard.carried()) == 10


def test_the_hosts_own_actors_run_beside_it(yard: Yard, eventually: Callable[..., Any]) -> None:
    done: list[int] = []
    carrier = yard.runtime._wiring.broker.carrier

    @dramatiq.actor(broker=carrier, actor_name="hosts", queue_name="hosts_own")
    def hosts(number: int) -> None:
        done.append(number)

    yard.start_worker()
    hosts.send(7)
    yard.ship(1)
    eventually(lambda: done == [7] and yard.statuses() == ["completed"])
    assert DOORBELL in carrier.get_declared_actors()
