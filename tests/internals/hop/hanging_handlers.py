"""Handlers that do not end, in every way."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from internals import Context, Work
from saga import Command, Retry


class Dig(Command, kind="mine.dig"):
    n: int = 0


Handle = Callable[[Dig, Work], None]


#: Seconds; what is waited for ends after so many at the latest, however slow the machine is.
LIMIT, BATCH_LIMIT, GRACE, PATIENCE = 0.6, 0.3, 0.3, 30.0


def mine(handle: Handle, **declared: Any) -> Context:
    context = Context("mine")
    context.handles(Dig, **{"retry": Retry(backoff=timedelta(0)), **declared})(handle)
    return context


class Hanging:
    """What handlers hang on, until the test lets them go."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._locks: list[threading.Lock] = []

    def is_set(self) -> bool:
        return self._over.is_set()

    def hang(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self._locks.append(lock)
        if not self._over.is_set():
            lock.acquire()

    def set(self) -> None:
        self._over.set()
        while self._locks:
            self._locks.pop().release()


def sleep_on(_: Work, released: Hanging) -> None:
    while not released.is_set():
        time.sleep(0.01)


def spin(_: Work, released: Hanging) -> None:
    while not released.is_set():
        pass


def hang_in_c(_: Work, released: Hanging) -> None:
    released.hang()


def query_slowly(work: Work, _: Hanging) -> None:
    work.execute("SELECT pg_sleep(5)")


def swallow(work: Work, released: Hanging) -> None:
    while not released.is_set():
        with suppress(BaseException):
            sleep_on(work, released)


def swallow_and_return(work: Work, released: Hanging) -> None:
    with suppress(BaseException):
        sleep_on(work, released)


WAYS = {
    "a_loop_that_sleeps": sleep_on,
    "a_loop_that_spins": spin,
    "a_call_of_c": hang_in_c,
    "a_slow_statement": query_slowly,
    "one_who_swallows_what_is_raised": swallow,
    "one_who_swallows_it_and_returns": swallow_and_return,
}
