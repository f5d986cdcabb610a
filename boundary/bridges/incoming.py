"""Incoming bridge: a context that publishes what others put on a stream.

What cannot be read is kept as a message to the bridge itself, whose handler tries again and then
parks it: it holds up nothing, and is retried when a release knows how to read it.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from uuid import UUID, uuid5

from boundary.bridges.cloud_event import CloudEvent, Unreadable, check
from boundary.bridges.origin import Origin
from boundary.bridges.outgoing import OutgoingBridge
from boundary.bridges.stream import Stream
from internals.context import Context
from internals.database.errors import storable
from internals.work import Work
from saga.envelope import Category, Envelope
from saga.errors import DefinitionError
from saga.messages import Command, Event
from saga.retry import Retry
from saga.unknown_fields import written_as_it_came

_PLACES = UUID("5d0c7f1a-3f1e-5a53-8d57-0c8f3c1b7f46")


class IncomingBridge(Context):
    """Publishes events that come from a stream.  Give it to the runtime as one of its contexts.

    Args:
        name: As a context's.
        stream: Where they come from.
        events: The events that are taken; what else is on the stream is passed over.
        joins_sagas: An event that says it was caused by a message of this system belongs to that
            message's saga then, as if a handler here had published it: a step may wait for it.
            The outgoing bridges, or their names, whose events are answered here; True for all that
            the runtime has.  All who can write to the stream can answer for a step, so it is off
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
            # A stream that was made again has other events at the same places.
            id=uuid5(_PLACES, f"{self.name}\n{event.place}\n{_digest(event)}"),
            kind=message.kind,
            category=Category.COMMAND,
            payload=message.to_json(),
            recipient=self.name,
            sender=self.name,
        )


def _digest(event: CloudEvent) -> str:
    said = json.dumps(dict(event.attributes), sort_keys=True).encode()
    return sha256(said + b"\n" + event.data).hexdigest()
