"""Interruption: Ctrl-C and SIGTERM, heeded where everything started so far is known."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """SIGINT or SIGTERM came: stop what was started, and go."""


class Interruption:
    """Remembers that the user wants the program to end, until it can do so in good order.

    A signal handler that raised could do so between a process' start and the note of it.
    """

    def __init__(self) -> None:
        self._wanted = False

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self._wanted:
            raise Interrupted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Remember SIGINT and SIGTERM instead of dying of them."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._remember) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._wanted = True
