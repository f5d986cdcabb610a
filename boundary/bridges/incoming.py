"""Incoming bridge: a context that publishes what others put on a stream.

Events are written into the outbox, which fans them out as it does those of this system's own; only
then is the stream told that they were read.  Cut in between they come again, and are dropped by
their ids.  What cannot be read is kept as a message to the bridge itself, whose handler tries again
and then parks it: it holds up nothing, and is retried when a release knows how to read it.
"""

import logging
import random
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from boundary.bridges.cloud_event import CloudEvent, Unreadable, cause, check, identity
from boundary.bridges.stream import Source, Stream, StreamTrouble
from internals.context import Context
from internals.database import Database
from internals.failures import is_transient, storable
from internals.outbox import Outbox
from internals.transactions import Boundary, transaction
from internals.unit_of_work import UnitOfWork
from internals.work import Work
from saga.envelope import Category, Envelope
from saga.errors import DefinitionError, PayloadError
from saga.messages import Command, Event
from saga.retry import Retry
from saga.unknown_fields import written_as_it_came

logger = logging.getLogger(__name__)

#: Events that are taken in one transaction.
_BATCH = 256

#: Seconds until reading is tried again, which double.
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0

_PLACES = UUID("5d0c7f1a-3f1e-5a53-8d57-0c8f3c1b7f46")

_CAUSES = """
SELECT id, saga_id, saga, root_id, awaits FROM {schema}.outbox WHERE id = ANY (%(id)s::uuid[])
"""


class IncomingBridge(Context):
    """Publishes events that come from a stream.  Give it to the runtime as one of its contexts.

    Args:
        name: As a context's.
        stream: Where they come from.
        events: The events that are taken; what else is on the stream is passed over.
        joins_sagas: An event that says it was caused by a message of this system belongs to that
            message's saga then, as if a handler here had published it: a step may wait for it.
            Whoever may write to the stream may answer for a step, so it is off unless it is asked
            for.

    Raises `DefinitionError` for what is no event.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        events: Iterable[type[Event]],
        joins_sagas: bool = False,
    ) -> None:
        super().__init__(name)
        self.stream = stream
        self.joins_sagas = joins_sagas
        self.events = {}
        for event in events:
            if not (isinstance(event, type) and issubclass(event, Event) and event.kind):
                raise DefinitionError(
                    f"Incoming bridge {name!r}: events are Event classes that declare a kind, "
                    f"not {event!r}"
                )
            self.events[event.kind] = event
        if not self.events:
            raise DefinitionError(f"Incoming bridge {name!r}: name an event that is taken")

        class Unread(Command, kind=f"{name}.unread"):
            """Something that could not be read, as it came."""

            attributes: dict[str, str]
            #: Base64; None for what was too large to be kept.
            data: str | None
            place: str

        self.unread = Unread

        @self.handles(Unread, emits=tuple(self.events.values()), retry=Retry(attempts=1))
        def read_again(command: Unread, work: Work) -> None:
            if command.data is None:
                raise Unreadable(f"it was too large to be kept; it is at {command.place}")
            read = CloudEvent(command.attributes, b64decode(command.data), command.place)
            if (event := self.read(read)) is not None:
                work.publish(event)

    def read(self, event: CloudEvent) -> Event | None:
        """Return the event, or None for one that is passed over.

        Raises `Unreadable` and `PayloadError` for what is no CloudEvent, or does not fit its class.
        """
        check(event)
        known = self.events.get(event.attributes["type"])
        return None if known is None else known.from_json(event.data)

    def unreadable(self, event: CloudEvent, limit: int) -> Envelope:
        """Return the message that keeps what cannot be read, of `limit` bytes at most."""
        data = b64encode(event.data).decode()
        attributes = {storable(n): storable(value) for n, value in event.attributes.items()}
        room = limit - sum(len(n) + len(v) for n, v in attributes.items()) - 1000
        message = self.unread(
            attributes=attributes if room > 0 else {},
            data=data if len(data) < room else None,
            place=event.place,
        )
        return Envelope(
            id=uuid5(_PLACES, f"{self.name}\n{event.place}"),
            kind=message.kind,
            category=Category.COMMAND,
            payload=message.to_json(),
            recipient=self.name,
            sender=self.name,
        )


@dataclass(frozen=True, slots=True)
class Receiver:
    """Reads the stream of an incoming bridge; several may at once, in one or many processes."""

    bridge: IncomingBridge
    database: Database
    outbox: Outbox
    #: Of the framework's tables.
    schema: str
    #: Bytes that a payload may have.
    limit: int
    #: Rings doorbells.
    ring: Callable[[frozenset[str]], object]

    def run(self, stop: threading.Event) -> None:
        """Take what comes until `stop` is set; a server that is down is tried again and again."""
        source, pause = self.bridge.stream.source(self.bridge.name), 0.0
        try:
            while not stop.is_set():
                try:
                    self.receive(source)
                    pause = 0.0
                except Exception as error:
                    if not (isinstance(error, StreamTrouble) or is_transient(error)):
                        raise
                    pause = min(2 * pause or _SHORTEST_PAUSE, _LONGEST_PAUSE)
                    logger.warning(
                        "%s: reading again in %.1f s: %s", self.bridge.name, pause, error
                    )
                    # What was read and not confirmed is given once more.
                    source.close()
                    stop.wait(pause * random.uniform(0.5, 1))
        finally:
            source.close()

    def receive(self, source: Source) -> int:
        """Take what comes next and confirm it; returns how many events were read.

        Raises `StreamTrouble`, and what the database raises: then nothing is confirmed.
        """
        events = source.poll(_BATCH)
        if events:
            self._take(events)
        source.confirm()
        return len(events)

    def _take(self, events: Sequence[CloudEvent]) -> None:
        with transaction(self.database, Boundary.HOP) as unit:
            causes = self._causes(unit, events) if self.bridge.joins_sagas else {}
            messages = [self._message(event, causes) for event in events]
            taken = [message for message in messages if message is not None]
            woken = self.outbox.send(unit, taken)
        self.ring(frozenset(woken))
        passed = len(messages) - len(taken)
        logger.info("%s: %d taken, %d passed over", self.bridge.name, len(taken), passed)

    def _causes(self, unit: UnitOfWork, events: Sequence[CloudEvent]) -> Mapping[UUID, Any]:
        asked = {"id": [id for id in map(cause, events) if id is not None]}
        rows = unit.run(_CAUSES.format(schema=self.schema), asked)
        return {id: found for id, *found in rows}

    def _message(self, event: CloudEvent, causes: Mapping[UUID, Any]) -> Envelope | None:
        try:
            read = self.bridge.read(event)
            if read is None:
                return None
            message = self._envelope(event, read, causes)
            self.outbox.check(message)
        except (Unreadable, PayloadError) as error:
            logger.warning("%s: %s cannot be read: %s", self.bridge.name, event.place, error)
            return self.bridge.unreadable(event, self.limit)
        return message

    def _envelope(self, event: CloudEvent, read: Event, causes: Mapping[UUID, Any]) -> Envelope:
        by = cause(event)
        if by is None or by not in causes:
            by, saga_id, saga, root_id, awaits = None, None, None, None, ()
        else:
            saga_id, saga, root_id, awaits = causes[by]
        return Envelope(
            id=identity(event),
            kind=read.kind,
            category=Category.EVENT,
            payload=written_as_it_came(read, event.data),
            saga_id=saga_id,
            saga=saga,
            causation_id=by,
            root_id=root_id or by,
            sender=self.bridge.name,
            awaits=tuple(awaits or ()),
        )
