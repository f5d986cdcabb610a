"""Incoming bridge: a context that publishes what others put on a stream.

Events are written into the outbox, which fans them out as it does those of this system's own; only
then is the stream told that they were read.  Cut in between they come again, and are dropped by
their ids.  What cannot be read is kept as a message to the bridge itself, whose handler tries again
and then parks it: it holds up nothing, and is retried when a release knows how to read it.  What is
not accepted, or what the database refuses, is kept in the same way and parked at once: an event is
never what ends a receiver.
"""

import json
import logging
import random
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import UUID, uuid5

from boundary.bridges.accepted_causes import Answers, NotAccepted, answers
from boundary.bridges.cloud_event import CloudEvent, Unreadable, check
from boundary.bridges.origin import Origin
from boundary.bridges.outgoing import OutgoingBridge
from boundary.bridges.stream import Source, Stream, StreamTrouble
from internals.context import Context
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import describe, is_no_room, is_transient, storable
from internals.store.delivery import shortened
from internals.store.outbox import DEFAULT_MAX_DEPTH, Outbox
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

#: So often in a row the database may say that it has no room, before an event is blamed for it.
_PATIENCE = 6

_CAME_BACK = "UPDATE {schema}.outbox SET repeats = repeats + 1 WHERE id = %(id)s"

_PARK = """
UPDATE {schema}.inbox
SET state = 'parked', attempts = 1, last_error = %(why)s, done_at = clock_timestamp()
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""


class IncomingBridge(Context):
    """Publishes events that come from a stream.  Give it to the runtime as one of its contexts.

    Args:
        name: As a context's.
        stream: Where they come from.
        events: The events that are taken; what else is on the stream is passed over.
        joins_sagas: An event that says it was caused by a message of this system belongs to that
            message's saga then, as if a handler here had published it: a step may wait for it.
            The outgoing bridges, or their names, whose events are answered here; True for all that
            the runtime has.  Whoever may write to the stream may answer for a step, so it is off
            unless it is asked for.
        answered_by: Where it joins sagas, the sources that may answer; all, if it is not given.

    Raises `DefinitionError` for what is no event.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        events: Iterable[type[Event]],
        joins_sagas: bool | Iterable[OutgoingBridge | str] = False,
        answered_by: Iterable[str] | None = None,
    ) -> None:
        super().__init__(name)
        self.stream = stream
        self.joins_sagas = bool(joins_sagas)
        #: Names of the outgoing bridges that are answered; None for all.
        self.answers: tuple[str, ...] | None = None
        if not isinstance(joins_sagas, bool):
            self.answers = tuple(b if isinstance(b, str) else b.name for b in joins_sagas)
        self.answered_by = None if answered_by is None else frozenset(answered_by)
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
                # Under the id that it had if it had been read at once.
                origin = Origin.of(self.name, read)
                kept = replace(work.sent[-1], id=origin.message_id, origin=origin.to_json())
                work.sent[-1] = kept

    def read(self, event: CloudEvent) -> Event | None:
        """Return the event, or None for one that is passed over.

        Raises `Unreadable` and `PayloadError` for what is no CloudEvent, or does not fit its class.
        """
        check(event)
        known = self.events.get(event.attributes["type"])
        return None if known is None else known.from_json(event.data)

    def envelope(self, event: CloudEvent, read: Event) -> Envelope:
        """Return the message as which an event is kept; raises `Unreadable` for a name too long."""
        origin = Origin.of(self.name, event)
        return Envelope(
            id=origin.message_id,
            kind=read.kind,
            category=Category.EVENT,
            payload=written_as_it_came(read, event.data),
            sender=self.name,
            origin=origin.to_json(),
        )

    def is_whole(self, kept: Envelope) -> bool:
        """Whether what `unreadable` returned holds all that is needed to read it later."""
        return self.unread.from_json(kept.payload).data is not None

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
            # A stream that was made anew has other events at the same places.
            id=uuid5(_PLACES, f"{self.name}\n{event.place}\n{_digest(event)}"),
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
    #: Names of the outgoing bridges whose events may be answered, if the bridge joins sagas.
    answered: tuple[str, ...] = ()
    #: Messages that may lie above an event.
    max_depth: int = DEFAULT_MAX_DEPTH

    def run(self, stop: threading.Event) -> None:
        """Take what comes until `stop` is set.  Whatever goes wrong, it is tried again and again."""
        source, pause, failures = self.bridge.stream.source(self.bridge.name), 0.0, 0
        try:
            while not stop.is_set():
                try:
                    self.receive(source, patient=failures < _PATIENCE)
                    pause, failures = 0.0, 0
                except Exception as error:
                    known = isinstance(error, StreamTrouble) or is_transient(error)
                    failures += 1
                    pause = min(2 * pause or _SHORTEST_PAUSE, _LONGEST_PAUSE)
                    logger.warning(
                        "%s: reading again in %.1f s: %s",
                        self.bridge.name,
                        pause,
                        error,
                        exc_info=not known,
                    )
                    # What was read and not confirmed is given once more.
                    _close(source, self.bridge.name)
                    stop.wait(pause * random.uniform(0.5, 1))
        finally:
            _close(source, self.bridge.name)

    def receive(self, source: Source, *, patient: bool = True) -> int:
        """Take what comes next and confirm it; returns how many events were read.

        An event that the database refuses is set aside.  With no more patience, so is one for
        which the database says that it has no room.

        Raises `StreamTrouble`, and what the database raises: then nothing is confirmed.
        """
        events = source.poll(_BATCH)
        if events:
            self._take(events, patient=patient)
        source.confirm()
        return len(events)

    def _take(self, events: Sequence[CloudEvent], *, patient: bool = True) -> None:
        try:
            self._store(events)
        except Exception as error:
            if patient and is_transient(error):
                raise
            # One of them is to blame, and is not to take the others with it.
            logger.info("%s: taken one by one: %s", self.bridge.name, describe(error))
        else:
            return
        for event in events:
            try:
                self._store([event])
            except Exception as error:
                if is_transient(error) and (patient or not is_no_room(error)):
                    raise
                self._set_aside(event, describe(error))

    def _store(self, events: Sequence[CloudEvent]) -> None:
        """Store events in one transaction; raises what the database says of any of them."""
        refused: list[tuple[CloudEvent, str]] = []
        back: list[UUID] = []
        with transaction(self.database, Boundary.HOP) as unit:
            bridges = self.answered if self.bridge.joins_sagas else None
            named = answers(unit, self.schema, events, bridges, self.bridge.answered_by)
            messages: list[Envelope] = []
            for event in events:
                try:
                    message = self._message(event, named, back)
                except NotAccepted as error:
                    refused.append((event, str(error)))
                else:
                    messages += [] if message is None else [message]
            woken = self.outbox.send(unit, messages)
            for id in sorted(back):
                unit.run(_CAME_BACK.format(schema=self.schema), {"id": id})
        self.ring(frozenset(woken))
        for event, why in refused:
            self._set_aside(event, why)
        passed = len(events) - len(messages) - len(refused)
        logger.info("%s: %d taken, %d passed over", self.bridge.name, len(messages), passed)

    def _set_aside(self, event: CloudEvent, why: str) -> None:
        """Keep an event that is not taken, parked with the reason, unless it is kept by now."""
        logger.warning("%s: %s is set aside: %s", self.bridge.name, event.place, why)
        kept = self.bridge.unreadable(event, self.limit)
        with transaction(self.database, Boundary.HOP) as unit:
            if self.outbox.send(unit, [kept]):
                parked = {"id": kept.id, "consumer": self.bridge.name, "why": shortened(why)}
                unit.run(_PARK.format(schema=self.schema), parked)

    def _message(self, event: CloudEvent, named: Answers, back: list[UUID]) -> Envelope | None:
        """Return the message to send, if any; `back` gets the id of one that was published here."""
        try:
            read = self.bridge.read(event)
            if read is None:
                return None
            if (own := named.own(event, read)) is not None:
                back.append(own.id)
                return None
            message = self._envelope(event, read, named)
            self.outbox.check(message)
        except (Unreadable, PayloadError) as error:
            kept = self.bridge.unreadable(event, self.limit)
            if not self.bridge.is_whole(kept):
                raise NotAccepted(f"{error}; it is too large to be kept") from error
            logger.warning("%s: %s cannot be read: %s", self.bridge.name, event.place, error)
            return kept
        return message

    def _envelope(self, event: CloudEvent, read: Event, named: Answers) -> Envelope:
        cause, depth = named.cause(event), named.depth(event)
        if depth > self.max_depth:
            raise NotAccepted(
                f"{depth:,} messages caused each other down to it, and the limit is "
                f"{self.max_depth:,}; look for a cycle, or raise SAGA_MAX_DEPTH"
            )
        message = replace(self.bridge.envelope(event, read), depth=depth)
        if cause is None:
            return message
        return replace(
            message,
            saga_id=cause.saga_id,
            saga=cause.saga,
            causation_id=cause.id,
            root_id=cause.root_id,
            awaits=tuple(cause.awaits),
        )


def _close(source: Source, name: str) -> None:
    try:
        source.close()
    except Exception:
        logger.warning("%s: leaving the stream failed", name, exc_info=True)


def _digest(event: CloudEvent) -> str:
    said = json.dumps(dict(event.attributes), sort_keys=True).encode()
    return sha256(said + b"\n" + event.data).hexdigest()
