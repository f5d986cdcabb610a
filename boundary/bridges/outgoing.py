"""Outgoing bridge: a context that puts the events to which it subscribes on a stream.

So what waits to go out is seen, ordered, parked, retried, backfilled and traced like any other
delivery.  A batch is claimed under a lease, which is committed; it is sent; and it is settled when the
stream has confirmed it.  So no transaction waits for the stream, and an event goes out at least once,
and a second time under the same id.
"""

import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid4

from boundary.bridges.cloud_event import CloudEvent, Passed, outgoing
from boundary.bridges.origin import Origin
from boundary.bridges.stream import PATIENCE, EventRefused, Stream
from internals.context import Context
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import describe, is_transient
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Handled
from internals.hop.dispatch import to_run
from internals.hop.lease_heartbeat import Heartbeat, Held
from internals.hop.unhandled import Left
from internals.store.delivery import Delivery
from internals.undo import no_undo
from internals.work import Work
from saga.backoff import Backoff
from saga.errors import DefinitionError
from saga.messages import Event

logger = logging.getLogger(__name__)

#: Until the stream is tried again.
_BACKOFF = Backoff(0.5, cap=30.0, jitter=0.5)

#: Seconds that a batch may be on its way until it is sent anew, unless its lease is renewed.
_LEASE = 2 * PATIENCE

_PASSED = """
SELECT o.id, o.sent_at, o.origin, (
    SELECT c.origin FROM {schema}.outbox AS c WHERE c.id = o.causation_id OFFSET 0)
FROM {schema}.outbox AS o WHERE o.id = ANY (%(id)s::uuid[])
"""


class OutgoingBridge(Context):
    """Puts events on a stream.  Give it to the runtime as one of its contexts.

    Args:
        name: As a context's; it is the name of its inbox too.
        stream: Where they go.
        events: The events that go out, each with the field that is its key: events of one key go
            out one by one, in the order in which they were committed.  None for no order.

    Raises `DefinitionError` for what is no event, and for a field that an event does not have.
    """

    def __init__(
        self, name: str, stream: Stream, *, events: Mapping[type[Event], str | None]
    ) -> None:
        super().__init__(name)
        if not events:
            raise DefinitionError(f"Outgoing bridge {name!r}: name an event that goes out")
        self.stream = stream
        for event, key in events.items():
            self.reacts_to(event, ordered_by=key, undo=no_undo("it went out to others"))(_not_run)


@dataclass(frozen=True, slots=True)
class _Sending:
    """A batch that is leased."""

    going: Sequence[Delivery]
    events: Sequence[CloudEvent]
    lease: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class _Sent:
    """What became of it."""

    #: What was not confirmed, by its place.
    failed: Mapping[int, Exception]
    #: Seconds for each.
    took: float
    #: Seconds until it is tried again.
    pause: float


class OutgoingConsumer:
    """Handles the deliveries of an outgoing bridge.

    Args:
        bridge: The bridge.
        writer: Writes what becomes of its deliveries.
        schema: Of the framework's tables.
        heartbeat: Renews the leases of what is on its way.
    """

    def __init__(
        self,
        bridge: OutgoingBridge,
        writer: BatchWriter,
        schema: str,
        heartbeat: Heartbeat,
    ) -> None:
        self.name = bridge.name
        self._bridge = bridge
        self._writer = writer
        self._inbox = writer.inbox
        self._outbox = writer.outbox
        self._sink = bridge.stream.sink()
        self._left = Left(bridge.name)
        self._passed = _PASSED.format(schema=schema)
        self._heartbeat = heartbeat
        #: In a row.
        self._failures = 0
        self._next = 0.0

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        """Claim deliveries under a lease; they are sent after the commit.

        While the stream is known not to answer nothing is claimed.
        """
        if time.monotonic() < self._next:
            return Handled()
        unit = hop.unit
        deliveries, size = self._inbox.claim(unit, limit)
        if not size:
            return Handled(more=True, missed=True)
        batch = Batch(self.name)
        undone = self._outbox.open_deliveries.undone(unit, (d.message for d in deliveries))
        going = [
            each for each in deliveries if to_run(self._bridge, each, undone, batch, self._left)
        ]
        sending = self._lease(unit, going) if going else None
        woken = self._writer.write(hop, batch)
        more = len(deliveries) >= size
        after = None if sending is None else partial(self._send_leased, sending)
        return Handled(len(deliveries), len(deliveries), more, woken, after_commit=after)

    def _send_leased(self, leased: "_Sending", database: Database) -> frozenset[str]:
        """Send a batch, wait for the stream, and settle what it confirmed."""
        ids = [each.message.id for each in leased.going]
        with self._heartbeat.keep(database, Held(self.name, ids, leased.lease, _LEASE)):
            sent = self._send(leased)
            try:
                return self._settle(database, leased, sent)
            except Exception as error:
                if not is_transient(error):
                    raise
                logger.info("%s: settled again: %s", self.name, type(error).__name__)
            return self._settle(database, leased, sent)

    def close(self) -> None:
        """Close the connections to the stream."""
        self._sink.close()

    def _lease(self, unit: UnitOfWork, going: Sequence[Delivery]) -> "_Sending":
        ids = [each.message.id for each in going]
        passed = {
            id: Passed(sent_at, _came_with(origin), _id(cause))
            for id, sent_at, origin, cause in unit.run(self._passed, {"id": ids})
        }
        sending = _Sending(going, [self._event(each, passed[each.message.id]) for each in going])
        self._inbox.lease_all(unit, ids, sending.lease, _LEASE)
        return sending

    def _send(self, leased: "_Sending") -> "_Sent":
        """Send, and return what became of each."""
        began = time.monotonic()
        failed = self._sink.send(leased.events)
        took = (time.monotonic() - began) / len(leased.going)
        troubles = [error for error in failed.values() if not isinstance(error, EventRefused)]
        return _Sent(failed, took, self._wait(troubles[0]) if troubles else self._go_on())

    def _settle(self, database: Database, leased: "_Sending", sent: "_Sent") -> frozenset[str]:
        """Settle what nobody has settled yet, in case the lease went to another meanwhile."""
        batch = Batch(self.name)
        with transaction(database, Boundary.LEASED) as unit:
            ids = [each.message.id for each in leased.going]
            held = self._inbox.hold_all(unit, ids, leased.lease)
            for place, each in enumerate(leased.going):
                if each.message.id in held:
                    error, ours = sent.failed.get(place), held[each.message.id]
                    self._note(batch, each, error, sent, ours=ours)
            return self._writer.write(HopTransaction(unit), batch)

    def _note(
        self,
        batch: Batch,
        each: Delivery,
        error: Exception | None,
        sent: "_Sent",
        *,
        ours: bool,
    ) -> None:
        if error is None:
            batch.succeed(each, (), took=sent.took)
        elif not ours:
            pass  # whoever has the lease now sends it
        elif isinstance(error, EventRefused):
            batch.park(each, describe(error), attempts=each.attempts + 1, external=True)
        else:
            # The message is not to blame: it uses up no attempt, however long this lasts.
            batch.leave(each, describe(error), delay=sent.pause)

    def _event(self, delivery: Delivery, passed: Passed) -> CloudEvent:
        handler = self._bridge.handlers[delivery.message.kind]
        key = None
        if handler.ordered_by is not None:
            found = json.loads(delivery.message.payload)
            for name in handler.ordered_by.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            key = found if found is None or isinstance(found, str) else json.dumps(found)
        return outgoing(delivery.message, passed, key)

    def _wait(self, error: Exception) -> float:
        """Leave the stream alone for a while; returns the seconds."""
        self._failures += 1
        pause = _BACKOFF.wait(self._failures, random.random())
        self._next = time.monotonic() + pause
        logger.warning("%s: not sent, again in %.1f s: %s", self.name, pause, error)
        return pause

    def _go_on(self) -> float:
        self._failures, self._next = 0, 0.0
        return 0.0


def _not_run(_: Event, __: Work) -> None:
    raise AssertionError("an outgoing bridge sends what its handlers would be given")


def _came_with(origin: str | None) -> tuple[str, str] | None:
    if origin is None:
        return None
    known = Origin.from_json(origin)
    return known.source, known.id


def _id(origin: str | None) -> str | None:
    return None if origin is None else Origin.from_json(origin).id
