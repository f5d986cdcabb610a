"""A harbour whose events go out by a bridge, and a pilot station that takes them in from one.

Both have a schema of their own, as two systems would.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from boundary import Runtime, Settings
from boundary.bridges import IncomingBridge, KafkaTopic, OutgoingBridge, RedisStream
from boundary.bridges.receiver import Receiver
from boundary.bridges.stream import Source
from internals import Context, Work
from saga import Event, Saga
from tests.conftest import make_engine, worker_environment

#: Holds a cluster of librdkafka's mock brokers, and says where they are, until it is killed.
CLUSTER = """
import signal
from confluent_kafka import Producer
holder = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3})
brokers = holder.list_topics(timeout=30).brokers.values()
print(",".join(f"{each.host}:{each.port}" for each in brokers), flush=True)
while True:
    signal.pause()
"""


class Docked(Event, kind="harbour.docked"):
    ship: str
    berth: int


class Left(Event, kind="harbour.left"):
    ship: str


class Kafka:
    """A cluster of mock brokers in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.servers = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Harbour:
    """Publishes ships, which go out by the bridge `out`."""

    def __init__(self, runtime: Callable[..., Runtime], outside: Any, stream: Any) -> None:
        self.outside = outside
        self.bridge = OutgoingBridge("out", stream, events={Docked: "ship", Left: None})
        self.runtime: Runtime = runtime([], [self.bridge])
        self.runtime.subscribe()

    def dock(self, ship: str, *berths: int) -> list[UUID]:
        """Publish that a ship docks, in this order; returns the ids."""
        with self.runtime.engine.begin() as connection:
            docked = (Docked(ship=ship, berth=berth) for berth in berths)
            return [self.runtime.publish(connection, event) for event in docked]

    def send(self) -> None:
        """Send all that is due."""
        for _ in range(100):
            if not self.runtime.answer("out"):
                return
        raise AssertionError("what was sent is due again and again")

    def deliveries(self) -> list[tuple[str, int, str | None]]:
        """State, attempts and error of each delivery, in order."""
        return list(
            self.outside.execute(
                "SELECT i.state, i.attempts, i.last_error FROM inbox i JOIN outbox o "
                "ON o.id = i.message_id ORDER BY o.seq"
            )
        )


class Station:
    """Notes what it hears of ships by the bridge `sea`."""

    def __init__(
        self,
        settings: Settings,
        outside: psycopg.Connection[Any],
        stream: Any,
        contexts: Sequence[Context] = (),
        sagas: Sequence[Saga[Any]] = (),
        **options: Any,
    ) -> None:
        self.outside = outside
        outside.execute(
            "CREATE TABLE noted (id bigint GENERATED ALWAYS AS IDENTITY, ship text, berth int)"
        )
        pilots = Context("pilots")

        @pilots.reacts_to(Docked, ordered_by="ship")
        def note(event: Docked, work: Work) -> None:
            work.execute(
                "INSERT INTO noted (ship, berth) VALUES (%(ship)s, %(berth)s)", event.model_dump()
            )

        self.stream = stream
        self.bridge = IncomingBridge("sea", stream, events=[Docked], **options)
        self.runtime = Runtime(
            sagas=sagas,
            contexts=[pilots, self.bridge, *contexts],
            settings=settings,
            engine=make_engine(settings),
        )
        self.receiver: Receiver = self.runtime._administration.receiver("sea")
        self.source: Source = stream.source("sea")

    def close(self) -> None:
        self.source.close()
        self.runtime.close()
        self.runtime.engine.dispose()

    def hear(self, count: int) -> None:
        """Take so many events, and have them handled."""
        while count > 0:
            count -= self.receiver.receive(self.source)
        self.work()

    def work(self) -> None:
        while sum(self.runtime.answer(name) for name in ("sea", "pilots")):
            pass

    def noted(self) -> list[tuple[str, int]]:
        return list(self.outside.execute("SELECT ship, berth FROM noted ORDER BY id"))

    def parked(self) -> list[tuple[UUID, str]]:
        return list(
            self.outside.execute(
                "SELECT message_id, last_error FROM inbox WHERE state = 'parked' ORDER BY due_at"
            )
        )


def written(stream: KafkaTopic | RedisStream) -> str:
    """The stream as a program declares it."""
    if isinstance(stream, RedisStream):
        return f"RedisStream({stream.stream!r}, {stream.url!r})"
    return (
        f"KafkaTopic({stream.topic!r}, {stream.servers!r}, "
        f"group={stream.group!r}, config={stream.config!r})"
    )


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Keep a process from running meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def saga(
    folder: Path, attribute: str, settings: Settings, *command: str, **more: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a command of the command line run, on the program `ports_of_call` in this folder.

    It does not outlive this, nor does any process that it started.
    """
    environment = os.environ | worker_environment(settings) | more
    environment["PYTHONPATH"] += f"{os.pathsep}{folder}"
    with subprocess.Popen(
        [Path(sys.executable).with_name("saga"), "--app", f"ports_of_call:{attribute}", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):  # all of them have ended
                os.killpg(process.pid, signal.SIGKILL)
