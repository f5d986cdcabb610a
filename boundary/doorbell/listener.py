"""Listener: a worker waits for the doorbells of one consumer, in a blocking pop.

While Redis cannot be listened to it waits all the same, without a word to Dramatiq, which would pause
for seconds and not notice that it is to stop.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

import dramatiq
import redis

from boundary.doorbell.circuit_breaker import Breaker
from boundary.doorbell.redis_clients import client, said

logger = logging.getLogger(__name__)

#: Seconds for which one pop blocks, at most.
_BLOCK = 1.0


def listening_client(url: str) -> redis.Redis:
    """Return a client to listen with: nothing else may wait for what waits for doorbells."""
    return client(url, blocks=_BLOCK)


class DoorbellConsumer(dramatiq.Consumer):
    """Waits for the doorbells of one consumer.

    Args:
        ears: A client to listen with.
        hearing: Where it is noted whose doorbells cannot be heard.
        consumer: Whose they are.
        key: Of the list.
        prefetch: Doorbells that may be heard and not answered.
        timeout: Seconds to wait for one.
        waiting: Doorbells that are worth waiting in the list.
        doorbell: Makes the message of one that was heard.
        give_back: Rings again.
    """

    def __init__(
        self,
        ears: redis.Redis,
        hearing: Breaker,
        consumer: str,
        key: str,
        *,
        prefetch: int,
        timeout: float,
        waiting: int,
        doorbell: Callable[[], "dramatiq.Message[None]"],
        give_back: Callable[[], object],
    ) -> None:
        self._ears = ears
        self._hearing = hearing
        self._consumer = consumer
        self._key = key
        self._timeout = timeout
        self._waiting = waiting
        self._doorbell = doorbell
        self._give_back = give_back
        self._free = threading.Semaphore(prefetch)
        #: Doorbells heard and not answered.  After a reconnection Dramatiq hands the answers to
        #: what its former consumer heard to this one, which gave out no room for them.
        self._heard: set[str] = set()
        #: Doorbells heard without a pause between them.
        self._in_a_row = 0

    def __next__(self) -> dramatiq.MessageProxy | None:
        if not self._free.acquire(timeout=self._timeout):
            return None
        if not self._listen():
            self._free.release()
            return None
        message = dramatiq.MessageProxy(self._doorbell())
        self._heard.add(message.message_id)
        return message

    def ack(self, message: dramatiq.MessageProxy) -> None:
        if message.message_id in self._heard:
            self._heard.remove(message.message_id)
            self._free.release()

    nack = ack

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Doorbells that were heard and not answered when the worker stops are rung again."""
        for _ in messages:
            self._give_back()

    def _listen(self) -> bool:
        """Wait for a doorbell; returns whether there was one."""
        until = time.monotonic() + self._timeout
        while True:
            left = until - time.monotonic()
            if not self._hearing.may_try(self._consumer):
                time.sleep(max(min(left, self._hearing.left(self._consumer)), 0.0))
                return False
            try:
                heard = self._pop(min(max(left, 0.01), _BLOCK))
            except redis.RedisError as error:
                if self._hearing.failed(self._consumer):
                    logger.warning("%s: no doorbell can be heard: %s", self._consumer, said(error))
                return False
            self._hearing.worked(self._consumer)
            if heard or time.monotonic() >= until:
                return heard

    def _pop(self, seconds: float) -> bool:
        heard = self._ears.blpop([self._key], timeout=seconds) is not None
        self._in_a_row = self._in_a_row + 1 if heard else 0
        if self._in_a_row > 2 * self._waiting:
            # All who can write there may have put any number; one drains the inbox.
            self._ears.ltrim(self._key, 0, self._waiting - 1)
            self._in_a_row = 0
        return heard
