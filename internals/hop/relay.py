"""Relay: rings for what was committed and not handled.

It is the timer service, the retry service and the recovery from a lost doorbell at once.  Every
worker process runs one; none leads, since the rows that one relay moves are skipped by the
others.  It reads and writes due times only, so it can never lose, repeat or settle a delivery.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import is_transient
from internals.database.unit_of_work import Row, UnitOfWork
from internals.hop import BATCH
from internals.store.ordering import LateKeys, OrderedDeliveries
from internals.store.sql import Statements
from saga.backoff import Backoff

logger = logging.getLogger(__name__)

#: Seconds between two looks, before jitter.
_INTERVAL = 0.5
#: Deliveries that one look rings for at most: after an outage the herd comes in portions.
_PORTION = 500
#: Of one consumer's due deliveries the oldest so many are looked at.
_WINDOW = 2000
#: Of one consumer's late deliveries the oldest so many, which its next hop would take, are counted
#: as rung for: the others wait behind them, and say nothing about what they do to their worker.
_HEAD = BATCH
#: Each so manieth look is also for deliveries that wait for one of their key that is over: it was
#: settled while they were being sent.
_ORDERED_LOOKS = 8
#: Each so manieth look is also for deliveries that were forwarded long ago.
_LONG_LOOKS = 12 * _ORDERED_LOOKS
#: Seconds between two rings for the same delivery, at most.
_LONGEST_GRACE = 60.0
#: The same where it is another database that may have been down, and can do no harm to be asked.
_SOON = 5.0

#: Seconds between two glances, where doorbells cannot ring.
_GLANCE = 0.05
#: The same where a key is to be looked at soon.
_SOON_AGAIN = Backoff(0.004, cap=_GLANCE)

#: Consumers to the number of doorbells that wait in their queues; None if nobody can tell.
Waiting = Callable[[Sequence[str]], Mapping[str, int] | None]


class Relay:
    """The relay of one worker process.

    Args:
        database: Where the inbox is.
        statements: For its schema.
        consumers: Those whose doorbells this process can ring.
        waiting: Tells how many doorbells wait; a consumer that has some is not rung again, so
            that a backlog does not breed doorbells.
        ring: Rings doorbells, and returns those that could not be rung.
        deaf: Tells whose doorbells are known not to ring, or not to be heard in this process.
        answer: Does here what a doorbell asks for that cannot ring.
        grace: Seconds that a delivery may wait before it counts as late; it doubles each ring.
        late: Ordering keys to look at soon.
        also: Called in the transaction of each long look; returns further consumers that have something
            to do.
        quick: Consumers that only take things from one database to another.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        consumers: Sequence[str],
        *,
        waiting: Waiting,
        ring: Callable[[frozenset[str]], frozenset[str]],
        deaf: Callable[[], frozenset[str]] = frozenset,
        answer: Callable[[str], object],
        grace: float,
        late: LateKeys | None = None,
        also: Callable[[UnitOfWork], set[str]] | None = None,
        quick: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._statements = statements
        self._also = also
        self._quick = frozenset(quick)
        self._consumers = list(consumers)
        self._waiting = waiting
        self._ring = ring
        self._deaf = deaf
        self._answer = answer
        self._grace = grace
        self._late = LateKeys() if late is None else late
        #: Those that were looked at and need another look.
        self._again = LateKeys()
        self._ordered = OrderedDeliveries(statements, grace=grace, late=self._again)
        self._looks = 0
        #: Looks in a row that left keys to be looked at again.
        self._with_keys = 0
        self._soon = threading.Event()

    def look(self) -> int:
        """Ring once for each consumer that has late deliveries and no doorbell waiting.

        Whose doorbell cannot ring is answered here, and need not be late for that.

        Returns the number of late deliveries that were moved.
        """
        waiting = self._waiting(self._consumers)
        deaf = self._find_deaf()
        if waiting is None:
            deaf, waiting = frozenset(self._consumers), {}
        quiet = [name for name in self._consumers if name in deaf or not waiting.get(name)]
        also_ordered = self._looks % _ORDERED_LOOKS == 0
        long = self._looks % _LONG_LOOKS == 0
        self._looks += 1
        if not (quiet or also_ordered or self._has_keys):
            return 0
        with transaction(self._database, Boundary.RELAY) as unit:
            rows = self._move(unit, quiet) if quiet else ()
            woken = self._wake(unit, also_held_up=also_ordered)
            if long and self._also is not None:
                woken |= self._also(unit) & set(quiet)
            due = self._find_due(unit, deaf)
        self._tell({consumer for (consumer,) in rows} | woken, deaf, due)
        return len(rows)

    def glance(self) -> None:
        """Look only for what cannot wait: keys to look at soon, and doorbells that cannot ring."""
        deaf = self._find_deaf()
        if not (deaf or self._has_keys):
            return
        with transaction(self._database, Boundary.RELAY) as unit:
            woken = self._wake(unit, also_held_up=False)
            due = self._find_due(unit, deaf)
        self._tell(woken, deaf, due)

    def _tell(self, late: set[str], deaf: frozenset[str], due: set[str]) -> None:
        to_ring = frozenset(late - deaf)
        here = (late & deaf) | due
        if to_ring:
            here |= self._ring(to_ring)
        for consumer in sorted(here):
            self._answer_here(consumer)

    @property
    def _has_keys(self) -> bool:
        return bool(self._late or self._again)

    def _find_deaf(self) -> frozenset[str]:
        return self._deaf().intersection(self._consumers)

    def _find_due(self, unit: UnitOfWork, consumers: frozenset[str]) -> set[str]:
        if not consumers:
            return set()
        rows = unit.run(self._statements.due, {"consumers": sorted(consumers)})
        return {consumer for (consumer,) in rows}

    def _move(self, unit: UnitOfWork, consumers: Sequence[str]) -> Sequence[Row]:
        """Put off the next look at what is late; returns whose it is."""
        return unit.run(
            self._statements.ring,
            {
                "consumers": consumers,
                "limit": max(1, _PORTION // len(consumers)),
                "window": _WINDOW,
                "head": _HEAD,
                "grace": self._grace,
                "caps": [_SOON if n in self._quick else _LONGEST_GRACE for n in consumers],
            },
        )

    def _wake(self, unit: UnitOfWork, *, also_held_up: bool) -> set[str]:
        """Let go on what is held up by nothing any more; returns the consumers that are here."""
        keys = self._late.take() | self._again.take()
        if also_held_up:
            keys |= {key for (key,) in unit.run(self._statements.held_up, {})}
        return self._ordered.wake(unit, keys) & set(self._consumers)

    def _answer_here(self, consumer: str) -> None:
        try:
            self._answer(consumer)
        except Exception:
            # The others must not wait for this one; it is late still, and looked at again.
            logger.warning("relay: %s could not be answered", consumer, exc_info=True)

    def hurry(self) -> None:
        """Have the next look now: there is something to see, or it is to stop."""
        self._soon.set()

    def run(self, stop: threading.Event) -> None:
        """Look again and again until `stop` is set, which `hurry` makes it notice.

        An error, such as a server that is down, is logged and the next look tries again:
        recovery is a loop, never something done once at the start.
        """
        self._late.tell(self.hurry)
        pause = look_in = _interval()
        looked_at = time.monotonic()
        while not stop.is_set():
            self._soon.wait(pause)
            self._soon.clear()
            if stop.is_set():
                return
            try:
                if time.monotonic() - looked_at >= look_in:
                    looked_at, look_in = time.monotonic(), _interval()
                    self.look()
                else:
                    self.glance()
                pause = self._next_pause(looked_at + look_in - time.monotonic())
            except Exception as error:
                known = is_transient(error)
                logger.warning("relay: %s, looking again", type(error).__name__, exc_info=not known)
                pause = _interval()

    def _next_pause(self, until_look: float) -> float:
        if self._has_keys:
            # Somebody is publishing with them: most often for a moment, sometimes for minutes.
            self._with_keys += 1
            pause = _SOON_AGAIN.longest(self._with_keys)
        else:
            self._with_keys = 0
            pause = _GLANCE if self._find_deaf() else until_look
        return max(min(pause, until_look), 0.0)


def _interval() -> float:
    return _INTERVAL * random.uniform(0.5, 1.5)
