"""Remote: a runtime's contexts that have a database of their own, wired to it and to home."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from internals.context import Context
from internals.database.circuit_breaker import Reach
from internals.hop.relay import Relay
from internals.remote.context import RemoteContext
from internals.remote.forwarding import Forwarder
from internals.remote.results import Parcelling, context_of, parcels_of
from internals.remote.returning import Returner
from internals.remote.stale_forwards import StaleForwards
from internals.remote.statements import remote_statements
from internals.store.inbox import Inbox

if TYPE_CHECKING:
    from boundary.runtime.wiring import Wiring


def remote_contexts(wiring: "Wiring") -> dict[str, RemoteContext]:
    """Return what answers the doorbells of those contexts whose own database is known, by name."""
    home = Reach(wiring.database)
    return {
        context.name: _remote_context(wiring, context, home, wiring.own_databases.reached[name])
        for name, contexts in wiring.own_databases.of(wiring.contexts).items()
        for context in contexts
    }


def remote_relays(wiring: "Wiring", answer_here: Callable[[str], None]) -> Iterator[Relay]:
    """Return a relay for each of those databases, whose inboxes have their context's doorbell."""
    for name, contexts in wiring.own_databases.of(wiring.contexts).items():
        names = [context.name for context in contexts]
        parcels = list(map(parcels_of, names))
        yield Relay(
            wiring.own_databases.reached[name],
            wiring.statements,
            [*names, *parcels],
            waiting=partial(_waiting, wiring),
            ring=lambda woken: wiring.broker.ring(frozenset(map(context_of, woken))),
            deaf=partial(_deaf, wiring, [*names, *parcels]),
            answer=lambda consumer: answer_here(context_of(consumer)),
            grace=wiring.settings.grace,
            quick=parcels,
        )


def stale_forwards(wiring: "Wiring", consumers: Sequence[str]) -> StaleForwards | None:
    """Return what home's relay looks at for these contexts; nothing if there are none."""
    own = remote_statements(wiring.settings.db_schema)
    return StaleForwards(own, consumers) if consumers else None


def _remote_context(wiring: "Wiring", context: Context, home: Reach, there: Reach) -> RemoteContext:
    settings = wiring.settings
    own = remote_statements(settings.db_schema)

    def inbox(consumer: str) -> Inbox:
        return Inbox(consumer, settings.db_schema, own)

    at_home, grace = inbox(context.name), settings.grace
    outbox = wiring.outbox_of(settings.max_payload)
    # For parcels, and what is in them.
    unlimited = wiring.outbox_of(sys.maxsize)
    writer = Parcelling(wiring.inbox(context.name), wiring.outbox, unlimited)
    return RemoteContext(
        home,
        there,
        Forwarder(at_home, outbox, own, there, grace=grace),
        wiring.context_consumer(context, writer, there),
        partial(Returner, home, inbox(parcels_of(context.name)), at_home, unlimited, own),
        wiring.prepare,
    )


def _waiting(wiring: "Wiring", consumers: Sequence[str]) -> Mapping[str, int] | None:
    counted = wiring.broker.waiting(sorted(set(map(context_of, consumers))))
    if counted is None:
        return None
    return {
        consumer: counted[context_of(consumer)]
        for consumer in consumers
        if context_of(consumer) in counted
    }


def _deaf(wiring: "Wiring", consumers: Sequence[str]) -> frozenset[str]:
    deaf = wiring.broker.deaf()
    return frozenset(consumer for consumer in consumers if context_of(consumer) in deaf)
