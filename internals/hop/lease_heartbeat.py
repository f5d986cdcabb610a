"""Lease heartbeat: a lease is renewed while its run lives, so that a slow call is made once.

One thread of a process renews all leases of one database that are held here, each at a third of its
length, in one statement.  A process that is dead or frozen, or is cut off from the database, renews
nothing: others take over when the lease ends, as ever.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.store.json_rows import records
from internals.store.sql import Statements

logger = logging.getLogger(__name__)

#: Seconds for which a run is taken to live: one that hangs is left to others then.
LONGEST_RUN = 3600.0

#: Of a lease's length, what passes until it is renewed, and until that is tried again if it failed.
_RENEWED = 1 / 3
_AGAIN = 1 / 10

#: Seconds for which a thread waits for the next run, when none is left.
_IDLE = 5.0


@dataclass(slots=True, eq=False)
class Held:
    """Deliveries of one consumer that are being run under one lease."""

    consumer: str
    messages: Sequence[UUID]
    lease: UUID
    #: The lease's length.
    seconds: float
    #: Seconds after which it is not renewed any more.
    limit: float = LONGEST_RUN
    began: float = field(default_factory=time.monotonic)
    #: When it is to be renewed next.
    next: float = 0.0

    @property
    def records(self) -> list[dict[str, str | UUID | float]]:
        """The deliveries, as the statement takes them."""
        return [
            {"id": id, "consumer": self.consumer, "lease": self.lease, "seconds": self.seconds}
            for id in self.messages
        ]


class Heartbeat:
    """Renews the leases that this process holds; safe to share between threads."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._lock = threading.Lock()
        self._pulses: dict[int, _Pulse] = {}
        self._pid = os.getpid()

    @contextmanager
    def keep(self, database: Database, held: Held) -> Iterator[None]:
        """Renew the lease as long as this is entered, and not after its limit."""
        pulse = self._pulse(database)
        pulse.add(held)
        try:
            yield
        finally:
            pulse.remove(held)

    def stop(self, seconds: float) -> None:
        """End its threads and wait for a renewal that is under way, so long at most.

        To be called before the connections are closed.  The next run starts a thread again.
        """
        until = time.monotonic() + seconds
        for pulse in tuple(self._pulses.values()):
            pulse.stop(until)

    def _pulse(self, database: Database) -> "_Pulse":
        if self._pid != os.getpid():  # the parent's runs are not ours, nor are its threads
            self._pid, self._pulses, self._lock = os.getpid(), {}, threading.Lock()
        with self._lock:
            found = self._pulses.get(id(database))
            if found is None:
                found = self._pulses[id(database)] = _Pulse(database, self._statements)
            return found


class _Pulse:
    """The leases of one database, and the thread that renews them; there is none without a run."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements
        self._held: set[Held] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        #: Until when the thread waits.
        self._until = 0.0
        #: Whether it is to end as soon as there is no run.
        self._stopping = False

    def add(self, held: Held) -> None:
        held.next = held.began + held.seconds * _RENEWED
        with self._changed:
            self._held.add(held)
            self._stopping = False
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="saga-heartbeat", daemon=True
                )
                self._thread.start()
            elif held.next < self._until:
                self._changed.notify()

    def remove(self, held: Held) -> None:
        with self._changed:
            self._held.discard(held)

    def stop(self, until: float) -> None:
        with self._changed:
            self._stopping, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while due := self._due():
            self._renew(due)

    def _due(self) -> list[Held]:
        """Wait for leases to be renewed; none are returned when the thread is to end."""
        idle_since: float | None = None
        with self._changed:
            while True:
                now = time.monotonic()
                self._forget_overlong(now)
                if any(held.next <= now for held in self._held):
                    # Those that are soon due as well, so that there is one statement for all.
                    return [h for h in self._held if h.next <= now + h.seconds * _RENEWED / 2]
                if self._held:
                    idle_since = None
                    self._until = min(held.next for held in self._held)
                else:
                    idle_since = now if idle_since is None else idle_since
                    self._until = idle_since + _IDLE
                    if self._stopping or now >= self._until:
                        self._thread = None
                        return []
                self._changed.wait(self._until - now)

    def _forget_overlong(self, now: float) -> None:
        for held in [held for held in self._held if now - held.began > held.limit]:
            self._held.discard(held)
            logger.warning(
                "%s: a run has taken %.0f s; its lease is not renewed any more",
                held.consumer,
                now - held.began,
            )

    def _renew(self, due: Sequence[Held]) -> None:
        leases = [record for held in due for record in held.records]
        leases.sort(key=lambda record: str(record["id"]))
        share = _RENEWED
        try:
            with transaction(self._database, Boundary.RELAY) as unit:
                unit.run(self._statements.renew, {"leases": records(leases)})
        except Exception as error:
            share = _AGAIN
            logger.warning("leases are not renewed, trying again: %s", error)
        now = time.monotonic()
        for held in due:
            held.next = now + held.seconds * share
