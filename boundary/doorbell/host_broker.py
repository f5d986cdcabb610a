"""Host broker: doorbells as ordinary messages of a Dramatiq broker that the host has already.

Slower than `boundary.doorbell.redis_broker`, whose queues are made for nothing else, and right all the same: a
doorbell may be lost, repeated or late on any broker, since what is due stands in Postgres.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

import dramatiq

from boundary.doorbell.circuit_breaker import Breaker
from boundary.doorbell.redis_broker import doorbell

logger = logging.getLogger(__name__)

#: Seconds for which a doorbell is waited for: how patient the host's client is nobody knows here.
_PATIENCE = 0.5

#: Seconds for which a broker that failed is left alone.
_PAUSE = 5.0

#: The name under which it is noted that the broker does not answer.  No consumer is called so.
_BROKER = ""


class StockDoorbells:
    """Doorbells on a broker of Dramatiq's own: Redis, RabbitMQ, or its stub for tests.

    Args:
        broker: The host's; its middleware stays, and its own actors are run beside ours.
        namespace: Begins the names of the queues, so that they meet none of the host's.
    """

    def __init__(self, broker: dramatiq.Broker, namespace: str) -> None:
        self.carrier = broker
        self._namespace = namespace
        self._consumers: set[str] = set()
        self._breaker = Breaker(_PAUSE)
        self._ringer = _Ringer(self._enqueue)

    def declare_doorbell(self, consumer: str) -> str:
        """Declare the queue of a consumer and return its name."""
        queue = self._queue(consumer)
        self._consumers.add(consumer)
        self.carrier.declare_queue(queue)
        return queue

    def ring(self, consumers: Iterable[str]) -> frozenset[str]:
        """Ring these consumers' doorbells; returns those that did not ring.

        Never raises for a broker that cannot be reached: what is due stands in Postgres.  Takes half a
        second at most, and nothing for a while after a failure.
        """
        asked = frozenset(consumers)
        if not asked or not self._breaker.may_try(_BROKER):
            return asked
        tried = frozenset(consumer for consumer in asked if self._breaker.may_try(consumer))
        if not tried:
            return asked
        try:
            failed = self._ringer.ring(tried, _PATIENCE)
        except TimeoutError:
            if self._breaker.failed(_BROKER):
                logger.warning("doorbells cannot be rung: the broker does not answer")
            return asked
        self._breaker.worked(_BROKER)
        for consumer in tried:
            error = failed.get(consumer)
            if error is None:
                self._breaker.worked(consumer)
            elif self._breaker.failed(consumer):
                name = type(error).__name__
                logger.warning("%s: its doorbell cannot be rung: %s: %s", consumer, name, error)
        return asked - (tried - failed.keys())

    def deaf(self) -> frozenset[str]:
        """Return the consumers whose doorbells did not ring when that was tried last.

        It also tries again where it is time to.
        """
        if overdue := self._breaker.overdue():
            self.ring(self._consumers if _BROKER in overdue else overdue)
        failing = self._breaker.failing()
        return frozenset(self._consumers) if _BROKER in failing else failing

    def waiting(self, consumers: Sequence[str]) -> Mapping[str, int]:
        """Say that none waits, since not every broker can tell.

        The relay then rings for what is late, more and more seldom.
        """
        return dict.fromkeys(consumers, 0)

    def close(self) -> None:
        """Leave the broker to the host."""

    def _enqueue(self, consumers: Iterable[str]) -> dict[str, Exception]:
        """Ring; returns what went wrong, by consumer."""
        failed = {}
        for consumer in consumers:
            try:
                self.declare_doorbell(consumer)
                self.carrier.enqueue(doorbell(consumer, self._queue(consumer)))
            except Exception as error:  # whatever the broker's client raises
                failed[consumer] = error
        return failed

    def _queue(self, consumer: str) -> str:
        return f"{self._namespace}.{consumer}"


_Failed = dict[str, Exception]


class _Ringer:
    """One thread that rings, so that its callers need not wait for a client that has no limit."""

    def __init__(self, enqueue: Callable[[Iterable[str]], _Failed]) -> None:
        self._enqueue = enqueue
        self._lock = threading.Lock()
        self._process = 0
        self._requests: SimpleQueue[tuple[frozenset[str], Future[_Failed]]] = SimpleQueue()
        self._stuck: Future[_Failed] | None = None

    def ring(self, consumers: frozenset[str], seconds: float) -> _Failed:
        """Return what went wrong, by consumer; raises `TimeoutError` if that takes longer."""
        self._begin()
        if self._stuck is not None and not self._stuck.done():
            raise TimeoutError
        asked: Future[_Failed] = Future()
        self._requests.put((consumers, asked))
        try:
            return asked.result(seconds)
        except TimeoutError:
            self._stuck = asked
            raise

    def _begin(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            # Threads do not live on in a forked process, whatever they held there.
            self._process, self._stuck, self._requests = os.getpid(), None, SimpleQueue()
            run = partial(self._run, self._requests)
            threading.Thread(target=run, name="saga-doorbells", daemon=True).start()

    def _run(self, requests: "SimpleQueue[tuple[frozenset[str], Future[_Failed]]]") -> None:
        while True:
            consumers, asked = requests.get()
            asked.set_result(self._enqueue(consumers))
