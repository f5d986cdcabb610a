"""Receiver: reads the stream of an incoming bridge and publishes what is on it.

Events are written into the outbox, which fans them out as it does those of this system's own; only
then does the receiver confirm to the stream that they were read.  Cut in between they come again,
and are dropped by their ids.  What is not accepted, or what the database refuses, is kept as what
cannot be read is, and parked at once: no event ends a receiver.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from boundary.bridges.accepted_causes import Answers, NotAccepted, answers
from boundary.bridges.cloud_event import CloudEvent, Unreadable
from boundary.bridges.incoming import IncomingBridge
from boundary.bridges.stream import Source, StreamTrouble
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import describe, is_no_room, is_transient
from internals.store.delivery import shortened
from internals.store.outbox import DEFAULT_MAX_DEPTH, Outbox
from saga.backoff import Backoff
from saga.envelope import Envelope
from saga.errors import PayloadError
from saga.messages import Event

logger = logging.getLogger(__name__)

#: Events that are taken in one transaction.
_BATCH = 256

#: Until reading is tried again.
_BACKOFF = Backoff(0.5, cap=15.0, jitter=0.5)

#: So often in a row the database may say that it has no room, before an event is blamed for it.
_PATIENCE = 6

_CAME_BACK = "UPDATE {schema}.outbox SET repeats = repeats + 1 WHERE id = %(id)s"

_PARK = """
UPDATE {schema}.inbox
SET state = 'parked', outcome = 'failed', attempts = 1, last_error = %(why)s, done_at = clock_timestamp()
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""


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
        source, failures = self.bridge.stream.source(self.bridge.name), 0
        try:
            while not stop.is_set():
                try:
                    self.receive(source, patient=failures < _PATIENCE)
                    failures = 0
                except Exception as error:
                    known = isinstance(error, StreamTrouble) or is_transient(error)
                    failures += 1
                    logger.warning(
                        "%s: reading again in %.1f s: %s",
                        self.bridge.name,
                        _BACKOFF.longest(failures),
                        error,
                        exc_info=not known,
                    )
                    # What was read and not confirmed is given once more.
                    _close(source, self.bridge.name)
                    stop.wait(_BACKOFF.wait(failures, random.random()))
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
