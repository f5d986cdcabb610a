"""Kafka as others see it: the bare records of a topic, and who of a group reads them."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from boundary import Runtime
from boundary.bridges import KafkaTopic, OutgoingBridge
from boundary.bridges.cloud_event import CloudEvent
from boundary.bridges.stream import Source
from internals import Context, Work
from saga import Command, Saga, Step
from tests.boundary.bridges.bridged_systems import Harbour, Kafka, Left, Station

#: Partitions of a topic that the mock cluster makes.
PARTITIONS = range(4)


class Call(Command, kind="berths.call"):
    ship: str


class Watched(KafkaTopic):
    """A topic that remembers what each of its readers was given."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.readers: list[Reader] = []

    def source(self, group: str) -> Source:
        self.readers.append(Reader(super().source(group)))
        return self.readers[-1]


class Reader:
    """Reads as a source does, and remembers."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.given: list[CloudEvent] = []

    def poll(self, limit: int) -> Sequence[CloudEvent]:
        found = self._source.poll(limit)
        self.given += found
        return found

    def confirm(self) -> None:
        self._source.confirm()

    def close(self) -> None:
        self._source.close()

    @property
    def partitions(self) -> set[str]:
        """Those of which it was given something."""
        return {event.place.split("/")[1] for event in self.given}


@pytest.fixture
def stream(kafka: Kafka) -> Watched:
    """A topic that nobody else uses."""
    name = f"ships-{uuid4().hex[:12]}"
    soon = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
    return Watched(name, kafka.servers, group=name, config=soon)


@pytest.fixture
def records(stream: Watched) -> Iterator[Callable[[int], list[Any]]]:
    """Read so many bare records from the beginning, with a consumer that knows nothing of bridges."""
    given = {"bootstrap.servers": stream.servers, "group.id": f"bare-{stream.topic}"}
    with closing(Consumer(given)) as consumer:
        consumer.assign([TopicPartition(stream.topic, n, OFFSET_BEGINNING) for n in PARTITIONS])

        def read(count: int) -> list[Any]:
            found: list[Any] = []
            while len(found) < count:
                for record in consumer.consume(count - len(found), timeout=1):
                    assert record.error() is None
                    found.append(record)
            return found

        yield read


class TestRecords:
    """As the Kafka protocol binding of CloudEvents 1.0 wants them, in binary mode."""

    def test_an_event_is_a_record_of_the_binding(
        self, harbour: Harbour, records: Callable[[int], list[Any]]
    ) -> None:
        [id] = harbour.dock("Ellen", 4)
        harbour.send()
        [record] = records(1)
        [(sent_at,)] = harbour.outside.execute("SELECT sent_at FROM outbox").fetchall()
        assert record.key() == b"Ellen"
        assert json.loads(record.value()) == {"ship": "Ellen", "berth": 4}
        # One header for each attribute, and for the content's type none but Kafka's own.
        assert sorted(record.headers()) == [
            ("ce_id", str(id).encode()),
            ("ce_partitionkey", b"Ellen"),
            ("ce_source", b"host"),
            ("ce_specversion", b"1.0"),
            ("ce_time", f"{sent_at:%Y-%m-%dT%H:%M:%S.%f}Z".encode()),
            ("ce_type", b"harbour.docked"),
            ("content-type", b"application/json"),
        ]

    def test_one_that_a_saga_caused_says_so(
        self, runtime: Any, outside: Any, stream: Watched, records: Callable[[int], list[Any]]
    ) -> None:
        berths = Context("berths")

        @berths.handles(Call, emits=(Left,))
        def call(command: Call, work: Work) -> None:
            work.publish(Left(ship=command.ship))

        berth: Step[Call, Any] = Step("berth", lambda call: call)
        visit = Saga("visit", Call, steps=(berth,))
        made: Runtime = runtime(
            [visit], [berths, OutgoingBridge("out", stream, events={Left: None})]
        )
        made.subscribe()
        with made.engine.begin() as connection:
            id = made.start(connection, visit, Call(ship="Ellen"))
        for name in ("saga.visit", "berths", "out"):
            made.answer(name)
        [record] = records(1)
        [(cause,)] = outside.execute("SELECT id FROM outbox WHERE kind = 'berths.call'").fetchall()
        assert record.key() is None
        headers = dict(record.headers())
        assert headers["ce_source"] == b"berths"
        assert headers["ce_causationid"] == str(cause).encode()
        assert headers["ce_saga"] == b"visit"
        assert headers["ce_sagaid"] == str(id).encode()
        assert "ce_partitionkey" not in headers

    def test_the_contents_type_is_read_from_where_it_is_written(
        self, harbour: Harbour, stream: Watched
    ) -> None:
        harbour.dock("Ellen", 4)
        harbour.send()
        with closing(stream.source("reader")) as source:
            while not (events := source.poll(1)):
                pass
        assert events[0].attributes["datacontenttype"] == "application/json"


class TestProducer:
    def test_it_is_idempotent(self, kafka: Kafka, eventually: Any) -> None:
        """The broker gave it an id under which it knows again what it has already."""
        seen: list[dict[str, Any]] = []
        watching = {
            "statistics.interval.ms": 50,
            "stats_cb": lambda said: seen.append(json.loads(said)),
        }
        topic = KafkaTopic(f"ships-{uuid4().hex[:12]}", kafka.servers, config=watching)
        sink: Any = topic.sink()
        assert sink.send([]) == {}

        def state() -> str | None:
            sink._producer.poll(0.1)
            return seen[-1].get("eos", {"idemp_state": None})["idemp_state"] if seen else ""

        eventually(lambda: state() in ("Assigned", None), 60, "the producer's state")
        assert state() == "Assigned"


class TestGroup:
    """Several receivers of one bridge."""

    def test_they_share_the_partitions_and_one_takes_over_when_another_stops(
        self, harbour: Harbour, station: Station, stream: Watched, eventually: Any
    ) -> None:
        ships = [f"ship {number}" for number in range(12)]
        berths = 0

        def dock() -> int:
            """Have each ship dock once more; returns how often they did in all."""
            nonlocal berths
            for ship in ships:
                harbour.dock(ship, berths)
            harbour.send()
            berths += 1
            return berths * len(ships)

        dock()  # The cluster makes a topic when something is put there.
        stream.readers.clear()  # The station's own reads nothing here.
        stops = [threading.Event(), threading.Event()]
        threads = [threading.Thread(target=station.receiver.run, args=[stop]) for stop in stops]
        with ExitStack() as last:
            for thread, stop in zip(threads, stops, strict=True):
                thread.start()
                last.callback(thread.join)
                last.callback(stop.set)
            eventually(lambda: dock() and shared(stream.readers), 60, "both to read")
            expected = dock()
            eventually(lambda: stored(station) == expected, 60, "all of it to come")
            stops[0].set()
            threads[0].join()
            expected = dock()
            eventually(lambda: stored(station) == expected, 60, "the rest to come")
        station.work()
        noted = station.noted()
        for ship in ships:
            assert [berth for other, berth in noted if other == ship] == list(range(berths))
        everywhere = {str(number) for number in PARTITIONS}
        assert {event.place.split("/")[1] for each in stream.readers for event in each.given} == (
            everywhere
        )


def shared(readers: Sequence[Reader]) -> bool:
    """Whether each of two readers was given something that went to it alone."""
    one, other = ({event.id for event in each.given} for each in readers)
    return bool(one - other and other - one)


def stored(station: Station) -> int:
    [(count,)] = station.outside.execute("SELECT count(*) FROM outbox").fetchall()
    return int(count)
