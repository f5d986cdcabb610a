"""The doorbell broker: Dramatiq over Redis, for messages that may be lost.

A doorbell says "consumer X may have deliveries" and nothing else, so a queue is a bare Redis list
whose entries have no content.  There is no acknowledgement and nothing to decode: a worker that
dies with a doorbell loses an early look at an inbox, which the relay repeats, and all who can
write to Redis can only cause such looks.  Consumers wait in a blocking pop, so an idle system
answers at once.

Redis may be away, hang, or refuse to write all or some of the lists.  Nobody waits for it: who could
not be rung is returned, to be answered without a doorbell, and after a failure nobody tries for a
while.

Queues of other actors, if a host declares some on this broker, work as in Dramatiq's own.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from redis.exceptions import NoPermissionError

from boundary.doorbell.circuit_breaker import Breaker
from boundary.doorbell.listener import DoorbellConsumer, listening_client
from boundary.doorbell.redis_clients import PATIENCE, client, said

logger = logging.getLogger(__name__)

#: The one actor that answers doorbells; its argument is the consumer.
DOORBELL = "saga.doorbell"

#: Doorbells that wait in one queue at most: each drains the inbox, so more would find nothing.
WAITING = 8

#: Seconds for which a doorbell that could not be rung, or heard, is left alone.
_PAUSE = 5.0

#: The name under which it is noted that the server itself fails.  No consumer is called so.
_SERVER = ""


class DoorbellBroker(RedisBroker):
    """A Dramatiq broker whose doorbell queues are woken, not polled.

    Args:
        url: Of the Redis server.
        namespace: Prefix of all its keys there.
        middleware: Dramatiq middleware; none by default.  The usual `Callbacks` and `Pipelines`
            let all who write to Redis name actors to run, `Retries` and `AgeLimit` decide in a
            worker's memory what is decided in Postgres here.
    """

    def __init__(
        self, *, url: str, namespace: str, middleware: Sequence[dramatiq.Middleware] = ()
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            url=url, namespace=namespace, middleware=list(middleware)
        )
        self._doorbells: set[str] = set()
        self._bells = client(url)
        self._ears = listening_client(url)
        self._ringing = Breaker(_PAUSE)
        self._hearing = Breaker(_PAUSE)

    @property
    def carrier(self) -> dramatiq.Broker:
        """The broker that the `dramatiq` command runs: itself."""
        return self

    def declare_doorbell(self, consumer: str) -> str:
        """Declare the doorbell queue of a consumer and return its name.

        Workers started from now on listen to it.
        """
        if consumer not in self._doorbells:
            self.emit_before("declare_queue", consumer)
            self._doorbells.add(consumer)
            self.queues.add(consumer)
            self.emit_after("declare_queue", consumer)
        return consumer

    def close(self) -> None:
        super().close()
        for connections in (self.client, self._bells, self._ears):
            connections.close()

    def ring(self, consumers: Iterable[str]) -> frozenset[str]:
        """Ring these consumers' doorbells, in one round trip; returns those that did not ring.

        Never raises for a Redis that cannot be reached or refuses: what is due stands in Postgres.
        Takes half a second at most, and nothing for a while after a failure.
        """
        asked = frozenset(consumers)
        if not asked or not self._ringing.may_try(_SERVER):
            return asked
        tried = [consumer for consumer in asked if self._ringing.may_try(consumer)]
        if not tried:
            return asked
        try:
            answers = _twice(lambda: self._push(tried))
        except redis.RedisError as error:
            if self._ringing.failed(_SERVER):
                logger.warning(
                    "Redis cannot be used (%s); workers find what is due by themselves", said(error)
                )
            return asked
        self._ringing.worked(_SERVER)
        rung = set()
        for consumer, answer in zip(tried, answers, strict=True):
            if isinstance(answer, Exception):
                self._note_failure(consumer, answer)
            else:
                self._ringing.worked(consumer)
                rung.add(consumer)
        return asked - rung

    def deaf(self) -> frozenset[str]:
        """Return the consumers whose doorbells did not ring, or could not be heard here, the last time.

        It also tries again to ring where it is time to.
        """
        overdue = self._ringing.overdue()
        if overdue:
            self.ring(self._doorbells if _SERVER in overdue else overdue)
        failing = self._ringing.failing()
        if _SERVER in failing:
            return frozenset(self._doorbells)
        return failing | self._hearing.failing()

    def waiting(self, consumers: Sequence[str]) -> Mapping[str, int] | None:
        """Return how many doorbells wait for each of these consumers; None if Redis is away.

        It leaves out those that it cannot count.  It also finds out whether Redis accepts writes, before
        a saga has to wait for that.
        """
        if _SERVER in self._ringing.failing():
            return None
        try:
            answers = _twice(lambda: self._count(consumers))
        except redis.RedisError as error:
            if self._ringing.failed(_SERVER):
                logger.warning("doorbells cannot be counted: %s", said(error))
            return None
        counted = {}
        for consumer, waits, written in zip(consumers, answers[::2], answers[1::2], strict=True):
            if not isinstance(waits, Exception):
                counted[consumer] = waits
            if isinstance(written, Exception) and not isinstance(written, NoPermissionError):
                self._note_failure(consumer, written)
        return counted

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> Any:
        if message.queue_name not in self._doorbells:
            return super().enqueue(message, delay=delay)
        self.ring([message.queue_name])
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        if queue_name not in self._doorbells:
            return super().consume(queue_name, prefetch, timeout)
        return DoorbellConsumer(
            self._ears,
            self._hearing,
            queue_name,
            self._key(queue_name),
            # Dramatiq prefetches twice as many messages as it has threads.  A doorbell that waits in
            # this process is one that another, idle process does not hear.
            prefetch=max(1, prefetch // 2),
            timeout=timeout / 1000,
            waiting=WAITING,
            doorbell=lambda: doorbell(queue_name),
            give_back=lambda: self.ring([queue_name]),
        )

    def _push(self, consumers: Sequence[str]) -> list[Any]:
        # One list's trouble is not another's, and in a cluster they may be on different servers.
        with self._bells.pipeline(transaction=False) as pipeline:
            for consumer in consumers:
                key = self._key(consumer)
                pipeline.rpush(key, b"")
                pipeline.ltrim(key, 0, WAITING - 1)
            return pipeline.execute(raise_on_error=False)[::2]

    def _count(self, consumers: Sequence[str]) -> list[Any]:
        with self._bells.pipeline(transaction=False) as pipeline:
            for consumer in consumers:
                key = self._key(consumer)
                pipeline.llen(key)
                # Writes nothing, since there is no such entry, and is refused where writing is.
                pipeline.linsert(key, "BEFORE", "nothing", "")
            return pipeline.execute(raise_on_error=False)

    def _note_failure(self, consumer: str, error: Exception) -> None:
        if self._ringing.failed(consumer):
            logger.warning("%s: its doorbell cannot be rung: %s", consumer, said(error))

    def _key(self, consumer: str) -> str:
        return f"{self.namespace}:doorbell:{consumer}"


def _twice(call: Callable[[], list[Any]]) -> list[Any]:
    """Call again if the connection had been lost before: the server may have been restarted."""
    began = time.monotonic()
    try:
        return call()
    except redis.ConnectionError:
        if time.monotonic() - began > PATIENCE / 5:
            raise
        return call()


def doorbell(consumer: str, queue: str | None = None) -> "dramatiq.Message[None]":
    """Return the Dramatiq message that says: this consumer may have deliveries."""
    return dramatiq.Message(
        queue_name=queue or consumer, actor_name=DOORBELL, args=(consumer,), kwargs={}, options={}
    )
