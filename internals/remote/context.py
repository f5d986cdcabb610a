"""A context that has a database of its own: what its doorbell stands for.

Home has the whole record, and is where all is fanned out, counted, ordered, undone and told to
sagas.  The context's own database has its tables, and the deliveries that it handles.  One doorbell
is answered in three legs; each goes on from what is committed:

1. deliveries are forwarded from home (`internals.remote.forwarding`);
2. they are handled, as any context's are, in transactions of its own database, which also write
   what became of each as a parcel (`internals.remote.results`);
3. parcels go home (`internals.remote.returning`).

While one database is down the others go on with what they have.
"""

from collections.abc import Callable, Mapping
from functools import partial

from internals.database.circuit_breaker import Reach
from internals.database.commit_points import Boundary, transaction
from internals.hop import NO_SAGAS, Colocated, Ring, drain
from internals.hop.consumer import Consumer
from internals.remote.forwarding import Forwarder
from internals.remote.returning import Returner

#: Makes the consumer of parcels, given the sagas that consume outcomes at once.
Returning = Callable[[Mapping[str, Colocated]], Returner]


class RemoteContext:
    """Answers the doorbell of a context that has its own database.

    Args:
        home: Where the record is.
        there: The context's own database.
        forwarder: The context's consumer at home.
        consumer: Its handlers, there.
        returning: Makes the consumer of its parcels, there.
        prepare: Called before home is used: what a worker does before it handles anything.
    """

    def __init__(
        self,
        home: Reach,
        there: Reach,
        forwarder: Forwarder,
        consumer: Consumer,
        returning: Returning,
        prepare: Callable[[], None],
    ) -> None:
        self.name = forwarder.name
        self.home = home
        self.there = there
        self.forwarder = forwarder
        self.consumer = consumer
        self.prepare = prepare
        self._returning = returning

    def answer(
        self,
        ring: Ring,
        *,
        limit: int,
        hopping: Callable[[], None] = lambda: None,
        colocated: Mapping[str, Colocated] = NO_SAGAS,
        follow: Ring | None = None,
    ) -> int:
        """Answer a doorbell in this thread; the arguments are those of `internals.hop.drain`.

        Returns how many deliveries got on by it.  What goes wrong in one leg is raised when those
        that need nothing of it have been gone.
        """
        return _Answer(self, ring, limit, hopping, self._returning(colocated)).run(follow)


class _Answer:
    """One answer: the legs, and what went wrong in them."""

    def __init__(
        self,
        of: RemoteContext,
        ring: Ring,
        limit: int,
        hopping: Callable[[], None],
        returner: Returner,
    ) -> None:
        self._of = of
        self._limit = limit
        self._ring = ring
        self._drain = partial(drain, limit=limit, hopping=hopping)
        self._returner = returner
        self._failed: list[Exception] = []

    def run(self, follow: Ring | None) -> int:
        got_on = [
            self._go(self._forward, self._of.home),
            self._go(self._handle, self._of.there),
            self._go(partial(self._bring_home, follow), self._of.there, self._of.home),
        ]
        if self._failed:
            raise self._failed[0]
        return max(got_on)

    def _go(self, leg: Callable[[], int], *needed: Reach) -> int:
        """Go one leg, unless one of the databases that it needs is away."""
        if any(database.away for database in needed):
            return 0
        try:
            return leg()
        except Exception as error:
            self._failed.append(error)
            return 0

    def _forward(self) -> int:
        self._of.prepare()
        if self._of.there.away:
            with transaction(self._of.home, Boundary.FORWARDED) as unit:
                self._of.forwarder.say_why(unit, self._of.there.why, self._limit)
            return 0
        return self._drain(self._of.home, self._of.forwarder, self._ring)

    def _handle(self) -> int:
        # After the last hop the next leg is gone.
        return self._drain(self._of.there, self._of.consumer, self._carry, follow=lambda _: None)

    def _carry(self, woken: frozenset[str]) -> None:
        """Bring home what one hop left to bring: it need not wait for the rest of the inbox."""
        if self._returner.name in woken and not self._failed:
            self._go(partial(self._bring_home, None), self._of.there, self._of.home)
        if self._of.name in woken:
            self._ring(frozenset({self._of.name}))

    def _bring_home(self, follow: Ring | None) -> int:
        self._of.prepare()
        return self._drain(
            self._of.there,
            self._returner,
            self._ring_at_home,
            follow=follow,
            boundary=Boundary.RETURNED,
        )

    def _ring_at_home(self, woken: frozenset[str]) -> None:
        """Ring; the parcels have no doorbell but the context's."""
        self._ring(frozenset(self._of.name if n == self._returner.name else n for n in woken))
