"""Faults of doorbells: dropped, repeated, late and so out of order."""

import random
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress

import redis

from boundary.doorbell.redis_broker import DoorbellBroker
from tests.chaos.tally import Tally

DROPPED, REPEATED, LATE = "doorbell_dropped", "doorbell_repeated", "doorbell_late"

#: How often a doorbell meets each.
RATES = {DROPPED: 0.2, REPEATED: 0.3, LATE: 0.2}

_LATEST = 1.0


def install(broker: DoorbellBroker, rates: Mapping[str, float], tally: Tally) -> None:
    """Let the doorbells that this process rings meet these faults while the storm lasts."""
    ring, rng = broker.ring, random.Random()

    def struck(fault: str) -> bool:
        strikes = tally.stormy and rng.random() < rates.get(fault, 0.0)
        if strikes:
            tally.struck(fault)
        return strikes

    def ring_badly(consumers: Iterable[str]) -> frozenset[str]:
        unrung: frozenset[str] = frozenset()
        for consumer in consumers:
            if struck(DROPPED):
                continue
            if struck(LATE):
                later = threading.Timer(rng.uniform(0, _LATEST), ring, ([consumer],))
                later.daemon = True
                later.start()
                continue
            unrung |= ring([consumer])
            if struck(REPEATED):
                _push(broker, consumer, rng.randint(1, 4))
        return unrung

    if rates:
        broker.ring = ring_badly  # type: ignore[method-assign]


def _push(broker: DoorbellBroker, consumer: str, times: int) -> None:
    """Ring without regard for how many doorbells wait already."""
    with suppress(redis.RedisError):  # then nobody hears anything now
        broker.client.rpush(f"{broker.namespace}:doorbell:{consumer}", *[b""] * times)
