"""Streams of each kind that nobody else uses, and a port on either side of them."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from boundary import Runtime, Settings
from boundary.bridges import KafkaTopic, OutgoingBridge, RedisStream
from tests.boundary.bridges.bridged_systems import Harbour, Kafka, Left, Station


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    cluster = Kafka()
    yield cluster
    cluster.kill()


@pytest.fixture(params=["kafka", "redis"])
def stream(request: pytest.FixtureRequest, settings: Any) -> Iterator[KafkaTopic | RedisStream]:
    """A stream that nobody else uses, of each kind."""
    if request.param == "kafka":
        servers = request.getfixturevalue("kafka").servers
        name = f"ships-{uuid4().hex[:12]}"
        # A reader that is gone is given up soon.
        soon = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
        yield KafkaTopic(name, servers, group=name, config=soon)
        return
    url = settings.redis_url.get_secret_value()
    key = f"{settings.namespace}:ships"
    yield RedisStream(key, url)
    with redis.Redis.from_url(url) as client:
        client.delete(key)


@pytest.fixture
def harbour(runtime: Callable[..., Runtime], outside: Any, stream: Any) -> Harbour:
    return Harbour(runtime, outside, stream)


@pytest.fixture
def station(elsewhere: Settings, apart: Any, stream: Any) -> Iterator[Station]:
    made = Station(elsewhere, apart, stream)
    yield made
    made.close()


@pytest.fixture
def out(elsewhere: Any) -> OutgoingBridge:
    """Takes calls to those who answer them."""
    calls = RedisStream(f"{elsewhere.namespace}:calls", elsewhere.redis_url.get_secret_value())
    return OutgoingBridge("out", calls, events={Left: None})
