"""Handlers that hang: in a loop, on a socket, in the database; or frozen with their process.

A handler of the harness meets these where it would have been slow by itself.  Each hangs for
longer than every bound of the profile, and then goes on as if nothing had been.
"""

import random
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import text

from internals import Work
from tests.chaos.freezing import freeze
from tests.chaos.frost import EVERY
from tests.chaos.tally import Tally

LOOP, SOCKET, QUERY = "handler_hung_in_loop", "handler_hung_on_socket", "handler_hung_in_query"
FROZEN, CALL_FROZEN = "freeze_in_handler", "freeze_in_call"

#: How often a handler meets each, and a call to the outside.
RATES: Mapping[str, float] = {LOOP: 0.002, SOCKET: 0.002, QUERY: 0.002, FROZEN: 0.002}
CALL_RATES: Mapping[str, float] = {CALL_FROZEN: 0.02}

#: Seconds.
HANG = 20.0

#: Where the messages are written down whose handlers hung.
_HUNG = "hung"

#: How much sooner one strikes that did not strike yet; to freeze is to be granted besides.
_SOON = 8.0
_WHEN_GRANTED = 50.0


class Hangs:
    """Strikes handlers of this process now and then while the storm lasts."""

    def __init__(self, rates: Mapping[str, float], folder: Path, tally: Tally) -> None:
        self._rates = rates
        self._folder = folder
        self._tally = tally
        self._random = random.Random()

    def meet(self, work: Work) -> None:
        """Called by a handler that is in its transaction."""
        self._meet(
            work,
            {
                LOOP: _loop,
                SOCKET: _listen,
                QUERY: lambda: work.connection.execute(text(f"SELECT pg_sleep({HANG})")),
                FROZEN: None,
            },
        )

    def meet_outside(self, work: Work) -> None:
        """Called by a handler that calls out, between its call and its transaction."""
        self._meet(work, {CALL_FROZEN: None})

    def _meet(self, work: Work, ways: Mapping[str, Callable[[], object] | None]) -> None:
        if not self._tally.stormy or not self._rates:
            return
        for fault, hang in ways.items():
            rate, soon = self._rates.get(fault, 0.0), _WHEN_GRANTED if hang is None else _SOON
            if rate and self._random.random() < rate * soon:
                known = fault in self._tally.read()
                if known and (self._just_now() or self._random.random() > 1 / soon):
                    continue
                if hang is not None:
                    self._note(work)
                    self._tally.struck(fault)
                    hang()
                    return
                if freeze(self._folder, fault, self._tally, lambda: self._note(work)):
                    return

    def _note(self, work: Work) -> None:
        with (self._folder / _HUNG).open("a") as hung:
            hung.write(f"{work.message_id}\n")

    def _just_now(self) -> bool:
        """Whether another handler hangs that has locked what all need."""
        file = self._folder / _HUNG
        return file.exists() and time.time() - file.stat().st_mtime < EVERY


def read_hung(folder: Path) -> set[str]:
    """Return the ids of the messages whose handlers hung."""
    file = folder / _HUNG
    return set(file.read_text().split()) if file.exists() else set()


_hangs: Hangs | None = None


def install(rates: Mapping[str, float], folder: Path, tally: Tally) -> None:
    """Let the handlers of this process hang."""
    global _hangs  # noqa: PLW0603 - one for a process, set before its work begins
    _hangs = Hangs(rates, folder, tally) if rates else None


def meet(work: Work) -> None:
    """Called by a handler that is in its transaction: may hang."""
    if _hangs is not None:
        _hangs.meet(work)


def meet_outside(work: Work) -> None:
    """Called by a handler that calls out: may hang."""
    if _hangs is not None:
        _hangs.meet_outside(work)


def _loop() -> None:
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        time.sleep(0.05)


def _listen() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(HANG)
        try:
            ours.recv(1)
        except TimeoutError:
            return
