"""What another system does on a stream: puts events on it, and reads them."""

from contextlib import closing
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from boundary.bridges import RedisStream
from boundary.bridges.cloud_event import CloudEvent
from tests.boundary.bridges.bridged_systems import Docked

WHY = "mended"


def read_all(stream: Any, count: int) -> list[CloudEvent]:
    """Read from the beginning until so many different events were there; some come twice."""
    found: list[CloudEvent] = []
    with closing(reader(stream)) as source:
        while len({event.id for event in found}) < count:
            found += source.poll(100)
    return found


def reader(stream: Any) -> Any:
    if isinstance(stream, RedisStream):
        return stream.source("reader-of-the-test")
    source = stream.source("reader-of-the-test")
    # Without waiting for a group to form.
    beginning = [TopicPartition(stream.topic, number, OFFSET_BEGINNING) for number in range(4)]
    source._consumer.unsubscribe()
    source._consumer.assign(beginning)
    return source


def put(stream: Any, event: CloudEvent) -> None:
    """Put something on a stream as another system does."""
    sink = stream.sink()
    assert sink.send([event]) == {}
    sink.close()


def docked(ship: str, berth: int) -> CloudEvent:
    attributes = {
        "specversion": "1.0",
        "id": f"{ship}-{berth}",
        "source": "elsewhere",
        "type": "harbour.docked",
        "partitionkey": ship,
    }
    return CloudEvent(attributes, Docked(ship=ship, berth=berth).to_json().encode())
