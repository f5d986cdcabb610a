"""The doorbell broker: Dramatiq over Redis, for messages that may be lost.

A doorbell says "consumer X may have deliveries" and nothing else, so a queue is a bare Redis list
whose entries have no content.  There is no acknowledgement and nothing to decode: a worker that
dies with a doorbell loses an early look at an inbox, which the relay repeats, and whoever can
write to Redis can only cause such looks.  Consumers wait in a blocking pop, so an idle system
answers at once.

Queues of other actors, if a host declares some on this broker, work as in Dramatiq's own.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

logger = logging.getLogger(__name__)

#: The one actor that answers doorbells; its argument is the consumer.
DOORBELL = "saga.doorbell"

#: Doorbells that wait in one queue at most: each drains the inbox, so more would find nothing.
_WAITING = 8

# KEYS: queues; ARGV[1]: doorbells that may wait in each.
_RING = """
for _, queue in ipairs(KEYS) do
    if redis.call('llen', queue) < tonumber(ARGV[1]) then
        redis.call('rpush', queue, '')
    end
end
"""


class DoorbellBroker(RedisBroker):
    """A Dramatiq broker whose doorbell queues are woken, not polled.

    Args:
        url: Of the Redis server.
        namespace: Prefix of all its keys there.
        middleware: Dramatiq middleware; none by default.  The usual `Callbacks` and `Pipelines`
            let whoever writes to Redis name actors to run, `Retries` and `AgeLimit` decide in a
            worker's memory what is decided in Postgres here.
    """

    def __init__(
        self, *, url: str, namespace: str, middleware: Sequence[dramatiq.Middleware] = ()
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            url=url, namespace=namespace, middleware=list(middleware)
        )
        self._doorbells: set[str] = set()
        self._ring = self.client.register_script(_RING)

    @property
    def carrier(self) -> dramatiq.Broker:
        """The broker that the `dramatiq` command runs: itself."""
        return self

    def declare_doorbell(self, consumer: str) -> str:
        """Declare the doorbell queue of a consumer and return its name; workers started from now on
        listen to it."""
        if consumer not in self._doorbells:
            self.emit_before("declare_queue", consumer)
            self._doorbells.add(consumer)
            self.queues.add(consumer)
            self.emit_after("declare_queue", consumer)
        return consumer

    def close(self) -> None:
        super().close()
        self.client.close()

    def ring(self, consumers: Iterable[str]) -> None:
        """Ring these consumers' doorbells, in one round trip.

        Never raises for a Redis that cannot be reached: what is due stands in Postgres, and the
        relay rings again.
        """
        keys = [self._key(consumer) for consumer in consumers]
        if not keys:
            return
        try:
            self._ring(keys=keys, args=[_WAITING])
        except redis.RedisError as error:
            logger.warning("doorbells not rung (%s); the relay will", type(error).__name__)

    def waiting(self, consumers: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many doorbells wait for each of these consumers; None if Redis is away."""
        try:
            with self.client.pipeline(transaction=False) as pipeline:
                for consumer in consumers:
                    pipeline.llen(self._key(consumer))
                return dict(zip(consumers, pipeline.execute(), strict=True))
        except redis.RedisError as error:
            logger.warning("doorbells not counted (%s)", type(error).__name__)
            return None

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> Any:
        if message.queue_name not in self._doorbells:
            return super().enqueue(message, delay=delay)
        self.ring([message.queue_name])
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        if queue_name not in self._doorbells:
            return super().consume(queue_name, prefetch, timeout)
        # Dramatiq prefetches twice as many messages as it has threads.  A doorbell that waits in
        # this process is one that another, idle process does not hear.
        return _DoorbellConsumer(
            self.client, queue_name, self._key(queue_name), max(1, prefetch // 2), timeout
        )

    def _key(self, consumer: str) -> str:
        return f"{self.namespace}:doorbell:{consumer}"


class _DoorbellConsumer(dramatiq.Consumer):
    """Waits for the doorbells of one consumer."""

    def __init__(
        self, client: redis.Redis, queue_name: str, key: str, prefetch: int, timeout: int
    ) -> None:
        self._client = client
        self._queue_name = queue_name
        self._key = key
        self._timeout = timeout / 1000
        self._free = threading.Semaphore(prefetch)
        #: Doorbells heard and not answered.  After a reconnection Dramatiq hands the answers to
        #: what its former consumer heard to this one, which gave out no room for them.
        self._heard: set[str] = set()

    def __next__(self) -> dramatiq.MessageProxy | None:
        if not self._free.acquire(timeout=self._timeout):
            return None
        try:
            heard = self._client.blpop([self._key], timeout=self._timeout)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._free.release()
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        if heard is None:
            self._free.release()
            return None
        message = dramatiq.MessageProxy(doorbell(self._queue_name))
        self._heard.add(message.message_id)
        return message

    def ack(self, message: dramatiq.MessageProxy) -> None:
        if message.message_id in self._heard:
            self._heard.remove(message.message_id)
            self._free.release()

    nack = ack

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Doorbells that were heard and not answered when the worker stops are rung again."""
        count = sum(1 for _ in messages)
        try:
            if count:
                self._client.rpush(self._key, *[b""] * count)
        except redis.RedisError as error:
            logger.warning("doorbells not given back (%s)", type(error).__name__)


def doorbell(consumer: str, queue: str | None = None) -> "dramatiq.Message[None]":
    """Return the Dramatiq message that says: this consumer may have deliveries."""
    return dramatiq.Message(
        queue_name=queue or consumer, actor_name=DOORBELL, args=(consumer,), kwargs={}, options={}
    )
