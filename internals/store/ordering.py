"""Ordering: deliveries of one ordering key are handled one by one, and each lets the next go on.

A publisher with a key holds its lock until the commit.  So the hop that settles the last delivery
of a key sees what was published, or finds that a publisher is at it, whose event may be held up by the
one that is just being settled.  The hop does not wait for that publisher, which may take long: the
relay of this process looks at the key again, soon and often.
"""

import threading
from collections.abc import Callable, Iterable

from internals.database.unit_of_work import UnitOfWork
from internals.store.sql import Statements


class LateKeys:
    """Ordering keys to be looked at again.  Safe to share between threads.

    It is a hint and may be lost: each relay looks for what nothing holds up, if more seldom.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._told: Callable[[], None] = lambda: None

    def __bool__(self) -> bool:
        return bool(self._keys)

    def tell(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever there are new ones."""
        self._told = call

    def add(self, keys: Iterable[str]) -> None:
        """Have these looked at."""
        with self._lock:
            new = not self._keys
            self._keys.update(keys)
        if new:
            self._told()

    def take(self) -> set[str]:
        """Return those to look at now, and forget them."""
        with self._lock:
            keys, self._keys = self._keys, set()
        return keys


class OrderedDeliveries:
    """Lets the next delivery of a key go on.  Safe to share between threads.

    Args:
        statements: For the schema.
        grace: Seconds that a delivery may wait before the relay rings for it.
        late: Keys that somebody is publishing with.
    """

    def __init__(
        self, statements: Statements, *, grace: float, late: LateKeys | None = None
    ) -> None:
        self._statements = statements
        self.grace = grace
        self._late = LateKeys() if late is None else late

    def wake(self, unit: UnitOfWork, keys: Iterable[str]) -> set[str]:
        """Let the first open delivery of each key go on; returns whose they are.

        Free without keys.
        """
        woken, free, busy = self._look(unit, keys)
        if free:
            # Somebody may have committed after that look began and before it asked.
            also, _, others = self._look(unit, free)
            woken, busy = woken | also, busy | others
        if busy:
            unit.on_commit(lambda: self._late.add(busy))
        return woken

    def _look(self, unit: UnitOfWork, keys: Iterable[str]) -> tuple[set[str], set[str], set[str]]:
        """Return consumers whose turn it is, and the keys that have none.

        Of the keys, first those with which nobody is publishing until our commit, then the others.
        """
        asked = sorted(keys)
        if not asked:
            return set(), set(), set()
        rows = unit.run(self._statements.wake, {"keys": asked, "grace": self.grace})
        return (
            {consumer for consumer, *_ in rows if consumer is not None},
            {key for _, key, free in rows if key is not None and free},
            {key for _, key, free in rows if key is not None and not free},
        )
