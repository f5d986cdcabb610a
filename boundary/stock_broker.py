"""Stock brokers: doorbells as ordinary messages of a Dramatiq broker that the host has already.

Slower than `boundary.broker`, whose queues are made for nothing else, and right all the same: a
doorbell may be lost, repeated or late on any broker, since what is due stands in Postgres.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence

import dramatiq

from boundary.broker import doorbell

logger = logging.getLogger(__name__)


class StockDoorbells:
    """Doorbells on a broker of Dramatiq's own: Redis, RabbitMQ, or its stub for tests.

    Args:
        broker: The host's; its middleware stays, and its own actors are run beside ours.
        namespace: Begins the names of the queues, so that they meet none of the host's.
    """

    def __init__(self, broker: dramatiq.Broker, namespace: str) -> None:
        self.carrier = broker
        self._namespace = namespace

    def declare_doorbell(self, consumer: str) -> str:
        """Declare the queue of a consumer and return its name."""
        queue = self._queue(consumer)
        self.carrier.declare_queue(queue)
        return queue

    def ring(self, consumers: Iterable[str]) -> None:
        """Ring these consumers' doorbells.

        Never raises for a broker that cannot be reached: what is due stands in Postgres, and the
        relay rings again.
        """
        for consumer in consumers:
            try:
                self.declare_doorbell(consumer)
                self.carrier.enqueue(doorbell(consumer, self._queue(consumer)))
            except Exception as error:  # whatever the broker's client raises
                logger.warning("doorbell not rung (%s); the relay will", type(error).__name__)

    def waiting(self, consumers: Sequence[str]) -> Mapping[str, int]:
        """Say that none waits, since not every broker can tell: the relay then rings for what is
        late, more and more seldom."""
        return dict.fromkeys(consumers, 0)

    def close(self) -> None:
        """Leave the broker to the host."""

    def _queue(self, consumer: str) -> str:
        return f"{self._namespace}.{consumer}"
