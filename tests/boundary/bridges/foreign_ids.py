"""A port whose calls go out and whose answers come in, from systems that choose their own ids."""

from typing import Any
from uuid import UUID

import redis

from boundary import Runtime, Settings
from boundary.bridges import IncomingBridge, OutgoingBridge, RedisStream
from boundary.bridges.cloud_event import CloudEvent
from internals import Context, Work
from saga import Command, Saga, Step
from tests.boundary.bridges.bridged_systems import Docked, Left
from tests.conftest import make_engine

WHY = "looked into it"


class Call(Command, kind="berths.call"):
    ship: str


class Pay(Command, kind="fees.pay"):
    ship: str


class Repay(Command, kind="fees.repay"):
    ship: str


def put(stream: RedisStream, event: CloudEvent) -> None:
    """Put something on a stream as another system does."""
    sink = stream.sink()
    assert sink.send([event]) == {}
    sink.close()


def docked(id: str, *, source: str = "elsewhere", ship: str = "Ellen", **more: str) -> CloudEvent:
    attributes = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": "harbour.docked",
        **more,
    }
    return CloudEvent(attributes, Docked(ship=ship, berth=4).to_json().encode())


def read_out(stream: RedisStream) -> list[dict[str, str]]:
    """The attributes of all that went out by a stream."""
    with redis.Redis.from_url(stream.url, decode_responses=True) as client:
        entries: Any = client.xrange(stream.stream)
    return [
        {n.removeprefix("ce_"): v for n, v in fields.items() if n != "data"}
        for _, fields in entries
    ]


class Port:
    """A port whose saga calls a berth and pays; it hears of others by `sea`, and tells by `out`."""

    def __init__(
        self, settings: Settings, outside: Any, stream: RedisStream, **options: Any
    ) -> None:
        self.outside, self.stream = outside, stream
        self.calls = RedisStream(f"{stream.stream}:out", stream.url)
        self.out = OutgoingBridge("out", self.calls, events={Left: None, Docked: None})
        self.sea = IncomingBridge("sea", stream, events=[Docked], **options)
        self.visit: Saga[Call] = Saga(
            "visit",
            Call,
            steps=(
                Step("berth", lambda call: call, until=Left),
                Step(
                    "fee",
                    lambda call: Pay(ship=call.ship),
                    compensation=lambda call: Repay(ship=call.ship),
                ),
                Step("ashore", lambda call: call, until=Docked),
            ),
        )
        self.runtime = Runtime(
            sagas=[self.visit],
            contexts=[*contexts(), self.sea, self.out],
            settings=settings,
            engine=make_engine(settings),
        )
        self.receiver = self.runtime._administration.receiver("sea")
        self.source = stream.source("sea")

    def start(self) -> UUID:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, self.visit, Call(ship="Ellen"))

    def hear(self, *events: CloudEvent) -> None:
        for event in events:
            put(self.stream, event)
        heard = 0
        while heard < len(events):
            heard += self.receiver.receive(self.source)

    def work(self) -> None:
        while sum(self.runtime.answer(name) for name in self.runtime._wiring.consumers):
            pass

    def status(self, id: UUID) -> tuple[str, str | None]:
        [row] = self.outside.execute(
            "SELECT status, reason FROM saga WHERE id = %s", [id]
        ).fetchall()
        status, reason = row
        return str(status), reason

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        return list(self.outside.execute(statement, parameters).fetchall())

    def close(self) -> None:
        self.source.close()
        self.runtime.close()
        self.runtime.engine.dispose()


def contexts() -> list[Context]:
    berths, fees = Context("berths"), Context("fees")

    @berths.handles(Call, emits=(Left,))
    def call(command: Call, work: Work) -> None:
        work.publish(Left(ship=command.ship))

    fees.handles(Pay)(lambda _, __: None)
    fees.handles(Repay)(lambda _, __: None)
    return [berths, fees]
