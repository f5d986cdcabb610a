"""Answering: what a doorbell asks for that cannot ring is done by this process, at once.

A worker has threads for it beside those that Dramatiq has, which wait for nothing then.  In a process
without a worker nothing is answered: a host's request must not wait for handlers.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from internals.database.errors import is_transient
from saga.backoff import Backoff

logger = logging.getLogger(__name__)

#: Until a consumer whose answer raised is answered again.
_BACKOFF = Backoff(1.0, cap=60.0)

#: Seconds for which a handler may go on when the process is to stop, as in Dramatiq's own threads.
_STOP = 600.0


class Answering:
    """Answers consumers in threads of its own.  Safe to share between threads.

    Args:
        answer: Does what a consumer's doorbell asks for.
    """

    def __init__(self, answer: Callable[[str], object]) -> None:
        self._answer = answer
        self._change = threading.Condition()
        #: Those to be answered, in the order in which it was asked for.
        self._asked: dict[str, None] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        self._size = 0
        self._idle = 0
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Whether anybody is answered here."""
        return self._size > 0

    def start(self, threads: int) -> None:
        """Answer from now on, with up to so many threads, which begin when they are needed."""
        self._size = threads

    def ask(self, consumers: Iterable[str]) -> None:
        """Have these consumers answered soon; returns at once."""
        with self._change:
            if not self.running:
                return
            self._asked.update(dict.fromkeys(filter(self._may_answer, consumers)))
            missing = min(len(self._asked) - self._idle, self._size - len(self._threads))
            for _ in range(missing):
                thread = threading.Thread(target=self._run, name="saga-answers", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify(len(self._asked))

    def stop(self) -> None:
        """Answer nobody any more; what is under way goes on."""
        with self._change:
            self._size = 0
            self._asked.clear()
            self._change.notify_all()

    def join(self) -> None:
        """Wait for what was under way."""
        until = time.monotonic() + _STOP
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0.0))

    def _run(self) -> None:
        while (consumer := self._next()) is not None:
            try:
                self._answer(consumer)
            except Exception as error:
                self._note_failure(consumer)
                known = is_transient(error)
                logger.warning("%s could not be answered", consumer, exc_info=not known)
            else:
                self._failures.pop(consumer, None)

    def _next(self) -> str | None:
        with self._change:
            self._idle += 1
            try:
                while self.running and not self._asked:
                    self._change.wait()
                if not self.running:
                    return None
                consumer = next(iter(self._asked))
                del self._asked[consumer]
                return consumer
            finally:
                self._idle -= 1

    def _may_answer(self, consumer: str) -> bool:
        _, again = self._failures.get(consumer, (0, 0.0))
        return time.monotonic() >= again

    def _note_failure(self, consumer: str) -> None:
        times, _ = self._failures.get(consumer, (0, 0.0))
        self._failures[consumer] = (times + 1, time.monotonic() + _BACKOFF.longest(times + 1))
