"""Worker loop: answers doorbells, follows what is sent, and stops.

Turns and rests are kept for each consumer.  They are made with the consumers, when the first
doorbell is answered: a process that only starts sagas has neither.
"""

import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from threading import Lock

from boundary.doorbell.host_broker import StockDoorbells
from boundary.doorbell.redis_broker import DoorbellBroker
from boundary.doorbell.served import Serve
from boundary.orchestration.orchestrator import Orchestrator
from boundary.runtime.administration import Administration
from boundary.runtime.answering import Answering
from boundary.runtime.own_databases import OwnDatabases
from boundary.runtime.remote_contexts import remote_relays, stale_forwards
from boundary.runtime.wiring import Wiring
from internals.context import Context
from internals.hop import Colocated, drain
from internals.hop.coalescing import Coalescing
from internals.hop.consumer import Consumer
from internals.hop.lock_contention import LockContention
from internals.hop.relay import Relay
from internals.hop.time_limits import Watch
from internals.once import once

#: Seconds for which a thread follows what it sends before it hands it over.
_FOLLOW = 2.0


class WorkerLoop:
    """Answers the doorbells of one process.  Safe to share between threads.

    Args:
        wiring: The consumers, and how they are reached.
        administration: Records the subscriptions.
        serve: `answer`, within what the host needs around it.
    """

    def __init__(self, wiring: Wiring, administration: Administration, serve: Serve) -> None:
        self._wiring = wiring
        self._administration = administration
        self.serve = serve
        #: Answers those that cannot be rung, in a worker's process.
        self.answering = Answering(partial(serve, follow=True))
        self._stopping = False

    @property
    def broker(self) -> DoorbellBroker | StockDoorbells:
        """The doorbells' broker."""
        return self._wiring.broker

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The contexts that this process is given."""
        return self._wiring.contexts

    @property
    def own_databases(self) -> OwnDatabases:
        """The names of contexts' own databases that are known here."""
        return self._wiring.own_databases

    @property
    def consumers(self) -> Mapping[str, Consumer]:
        """Those that have a doorbell, by name."""
        return self._wiring.consumers

    @property
    def watch(self) -> Watch:
        """Ends handlers that take too long."""
        return self._wiring.watch

    def subscribe_once(self) -> None:
        """Record the subscriptions, unless this process did so before."""
        self._administration.subscribe_once()

    def close(self) -> None:
        """Close connections and leave the embedded servers."""
        self._wiring.close()

    def ring(self, consumers: Set[str]) -> None:
        """Ring doorbells; this process answers its own consumers whose doorbells cannot ring."""
        unrung = self._wiring.broker.ring(consumers)
        if unrung:
            self.answering.ask(unrung & self._wiring.consumers.keys())

    def answer_here(self, consumer: str) -> None:
        """Answer a consumer without a doorbell: in a worker's own threads, or else in this one."""
        if self.answering.running:
            self.answering.ask([consumer])
        else:
            self.serve(consumer)

    def answer(self, consumer: str, *, follow: bool) -> int:
        """Handle what a consumer has due, and with `follow` what follows from it.

        Returns how many deliveries were settled.
        """
        settled = 0
        until = time.monotonic() + _FOLLOW
        next_ = [consumer] if consumer in self._wiring.consumers else []
        if next_ and consumer not in self._wiring.remote:
            self._wiring.prepare()
        while next_:
            name = next_.pop()
            coalescing, ring = self._coalescing[name], self._wiring.ring
            contention = self._contention[name]
            once = partial(
                self._drained(name, contention.gave_way),
                ring,
                limit=self._wiring.settings.batch,
                hopping=coalescing.hopping,
            )
            if follow:
                once = partial(once, colocated=self.colocated)
            if follow and time.monotonic() < until:
                once = partial(once, follow=partial(self._follow, next_))
            with contention.trying() as may:
                settled += coalescing.run(once, partial(ring, frozenset({name}))) if may else 0
        return settled

    def follow_no_further(self) -> None:
        """Finish what is under way and leave the rest to others: this worker is being stopped."""
        self._stopping = True

    def relay(self) -> Relay:
        """Return a relay over the consumers of this process."""
        wiring = self._wiring
        return Relay(
            wiring.database,
            wiring.statements,
            list(wiring.consumers),
            waiting=wiring.broker.waiting,
            ring=wiring.broker.ring,
            deaf=wiring.broker.deaf,
            answer=self.answer_here,
            grace=wiring.settings.grace,
            late=wiring.late_keys,
            also=stale_forwards(wiring, list(wiring.remote)),
            quick=list(wiring.remote),
        )

    def relays(self) -> list[Relay]:
        """Return a relay for each database that this process knows, home's first."""
        return [self.relay(), *remote_relays(self._wiring, self.answer_here)]

    @once
    def colocated(self) -> Mapping[str, Colocated]:
        """The orchestrators that consume outcomes within the transaction that sends them."""
        if not self._wiring.settings.colocate:
            return {}
        return {n: c for n, c in self._wiring.consumers.items() if isinstance(c, Orchestrator)}

    @once
    def _coalescing(self) -> dict[str, Coalescing]:
        return {name: Coalescing(self._wiring.settings.budget) for name in self._wiring.consumers}

    @once
    def _contention(self) -> dict[str, LockContention]:
        probes = Lock()
        return {
            name: LockContention(probes, partial(self._wiring.ring, frozenset({name})))
            for name in self._wiring.consumers
        }

    def _drained(self, name: str, gave_way: Callable[[], None]) -> Callable[..., int]:
        """Return what hops until nothing is due for this consumer."""
        if name in self._wiring.remote:
            return self._wiring.remote[name].answer
        wiring = self._wiring
        return partial(drain, wiring.database, wiring.consumers[name], gave_way=gave_way)

    def _follow(self, next_: list[str], woken: frozenset[str]) -> None:
        """Go on with one consumer of this process in place of ringing for it."""
        here = None
        if not (next_ or self._stopping):
            here = next(iter(woken & self._wiring.consumers.keys()), None)
        if here is not None:
            next_.append(here)
        self._wiring.ring(woken - {here})
