"""Outgoing bridge: a context that puts the events to which it subscribes on a stream.

So what waits to go out is seen, ordered, parked, retried, backfilled and traced like any other
delivery.  An event is settled in a transaction that the stream's confirmation comes before: it goes
out at least once, and a second time under the same id.
"""

import json
import logging
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from boundary.bridges.cloud_event import CloudEvent, outgoing
from boundary.bridges.stream import EventRefused, Stream
from internals.batch import NOBODY, Batch, Folder, finish
from internals.consumer import Handled
from internals.context import Context
from internals.context_consumer import to_run
from internals.database import Database
from internals.failures import describe
from internals.inbox import Delivery, Inbox
from internals.left import Left
from internals.outbox import Outbox
from internals.undo import no_undo
from internals.unit_of_work import UnitOfWork
from internals.work import Work
from saga.errors import DefinitionError
from saga.messages import Event

logger = logging.getLogger(__name__)

#: Seconds until the stream is tried again, which double.
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

_SENT_AT = "SELECT id, sent_at FROM {schema}.outbox WHERE id = ANY (%(id)s::uuid[])"


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


class OutgoingConsumer:
    """Handles the deliveries of an outgoing bridge.

    Args:
        bridge: The bridge.
        inbox: Its deliveries.
        outbox: Where its sagas are told of what is parked.
        schema: Of the framework's tables.
    """

    def __init__(self, bridge: OutgoingBridge, inbox: Inbox, outbox: Outbox, schema: str) -> None:
        self.name = bridge.name
        self._bridge = bridge
        self._inbox = inbox
        self._outbox = outbox
        self._sink = bridge.stream.sink()
        self._left = Left(bridge.name)
        self._sent_at = _SENT_AT.format(schema=schema)
        self._pause = 0.0
        self._next = 0.0

    def handle(
        self, unit: UnitOfWork, limit: int, folders: Mapping[str, Folder] = NOBODY
    ) -> Handled:
        """Claim deliveries, send them, wait for the stream, and settle what it confirmed.

        While the stream is known not to answer nothing is claimed, and no transaction waits for it.
        """
        if time.monotonic() < self._next:
            return Handled()
        deliveries, size = self._inbox.claim(unit, limit)
        if not size:
            return Handled(more=True, missed=True)
        batch = Batch(self.name)
        undone = self._outbox.settling.undone(unit, (d.message for d in deliveries))
        going = [
            each for each in deliveries if to_run(self._bridge, each, undone, batch, self._left)
        ]
        trouble = self._send(unit, going, batch) if going else False
        woken = finish(unit, self._inbox, self._outbox, batch, folders=folders)
        more = len(deliveries) >= size and not trouble
        return Handled(len(deliveries), len(deliveries), more, woken)

    def finish(self, database: Database, leased: Any) -> frozenset[str]:
        raise AssertionError("nothing is leased")

    def close(self) -> None:
        """Close the connections to the stream."""
        self._sink.close()

    def _send(self, unit: UnitOfWork, going: Sequence[Delivery], batch: Batch) -> bool:
        """Note what became of each; returns whether the stream was in trouble."""
        asked = {"id": [each.message.id for each in going]}
        sent_at = {id: at for id, at in unit.run(self._sent_at, asked)}  # noqa: C416 - rows are no pairs to mypy
        events = {each.message.id: self._event(each, sent_at[each.message.id]) for each in going}
        began = time.monotonic()
        failed = self._sink.send(list(events.values()))
        took = (time.monotonic() - began) / len(going)
        troubles = [error for error in failed.values() if not isinstance(error, EventRefused)]
        pause = self._wait(troubles[0]) if troubles else self._go_on()
        for each in going:
            error = failed.get(str(each.message.id))
            if error is None:
                batch.succeed(each, (), took=took)
            elif isinstance(error, EventRefused):
                batch.park(each, describe(error), attempts=each.attempts + 1, external=True)
            else:
                # The message is not to blame: it uses up no attempt, however long this lasts.
                batch.leave(each, describe(error), delay=pause)
        return bool(troubles)

    def _event(self, delivery: Delivery, sent_at: Any) -> CloudEvent:
        handler = self._bridge.handlers[delivery.message.kind]
        key = None
        if handler.ordered_by is not None:
            found = json.loads(delivery.message.payload)
            for name in handler.ordered_by.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            key = found if found is None or isinstance(found, str) else json.dumps(found)
        return outgoing(delivery.message, sent_at, key)

    def _wait(self, error: Exception) -> float:
        """Leave the stream alone for a while; returns the seconds."""
        self._pause = min(2 * self._pause or _SHORTEST_PAUSE, _LONGEST_PAUSE)
        pause = self._pause * random.uniform(0.5, 1)
        self._next = time.monotonic() + pause
        logger.warning("%s: not sent, again in %.1f s: %s", self.name, pause, error)
        return pause

    def _go_on(self) -> float:
        self._pause = self._next = 0.0
        return 0.0


def _not_run(_: Event, __: Work) -> None:
    raise AssertionError("an outgoing bridge sends what its handlers would be given")
