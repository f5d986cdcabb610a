"""CloudEvent: an event as it travels to and from systems that are not built with this framework.

The attributes are those of CloudEvents 1.0 in its binary mode: each is a header of its own, and the
event's payload, JSON, is the body.  Names of extensions are lower-case letters, as the
specification wants them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from saga.envelope import Envelope
from saga.messages import Event

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"

#: The largest depth that is read; an event that says more is as deep as that.
_DEEPEST = 2**30

#: What each attribute says; those without which an event cannot be read are in `_REQUIRED`.
_ATTRIBUTES = {
    "specversion": 'Always "1.0".',
    "id": "The message's id; the same event that comes again has the same.",
    "source": "Who published it: the name of a context.",
    "type": "The event's kind.",
    "time": "When it was published, RFC 3339.",
    "datacontenttype": "Always application/json.",
    "partitionkey": "The ordering key: events of one key keep their order.",
    "causationid": "The id of the message whose handling published this one.",
    "saga": "The name of the saga to which it belongs.",
    "sagaid": "That saga's id.",
    "depth": "How many messages caused each other above it; none, if it is left out.",
    "originid": "Of an event that is passed on, the id that it had where it was published first.",
    "originsource": "Who published it there.",
    "causationorigin": "The same of the message that caused it: the id that it had first.",
}
_REQUIRED = ("specversion", "id", "source", "type")


class Unreadable(ValueError):
    """Something that was read from a stream is no event that is known here."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event on its way."""

    #: Attributes by name, without the prefix that a stream gives them.
    attributes: Mapping[str, str]
    #: The payload: JSON text.
    data: bytes
    #: Where it was read, such as a partition and an offset.
    place: str = ""

    @property
    def id(self) -> str:
        """The event's id."""
        return self.attributes["id"]

    @property
    def key(self) -> str | None:
        """The ordering key, if it has one."""
        return self.attributes.get("partitionkey")


@dataclass(frozen=True, slots=True)
class Passed:
    """What the record has of a message that goes out, besides the message."""

    #: When it was committed, as the database's clock has it.
    sent_at: datetime
    #: Source and id that it came with, if it came from outside.
    origin: tuple[str, str] | None = None
    #: The id that the message came with which caused it, if that one did.
    cause: str | None = None


def outgoing(message: Envelope, passed: Passed, key: str | None) -> CloudEvent:
    """Return a message of the outbox as it goes out.

    Args:
        message: The event.
        passed: What else the record has of it.
        key: Its ordering key, if it has one.
    """
    attributes = {
        "specversion": SPECVERSION,
        "id": str(message.id),
        "source": message.sender or "host",
        "type": message.kind,
        "time": passed.sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": CONTENT_TYPE,
    }
    source, id = passed.origin or (None, None)
    optional = {
        "partitionkey": key,
        "causationid": message.causation_id,
        "saga": message.saga,
        "sagaid": message.saga_id,
        "depth": message.depth or None,
        "originid": id,
        "originsource": source,
        "causationorigin": passed.cause,
    }
    attributes.update({name: str(value) for name, value in optional.items() if value is not None})
    return CloudEvent(attributes, message.payload.encode())


def check(event: CloudEvent) -> None:
    """Raise `Unreadable` unless the attributes are those of a CloudEvent 1.0."""
    for name in _REQUIRED:
        if not event.attributes.get(name):
            raise Unreadable(f"the attribute {name!r} is missing")
    if (version := event.attributes["specversion"]) != SPECVERSION:
        raise Unreadable(f"specversion is {version!r} and not {SPECVERSION!r}")


def ids(event: CloudEvent, *names: str) -> list[UUID]:
    """Return those of these attributes that are ids as this system's messages have them."""
    found = []
    for name in names:
        try:
            found.append(UUID(event.attributes.get(name, "")))
        except ValueError:
            continue
    return found


def causes(event: CloudEvent) -> list[UUID]:
    """Return the ids of the message that it says it was caused by, the nearest first."""
    return ids(event, "causationid", "causationorigin")


def depth(event: CloudEvent) -> int:
    """Return how deep an event says it lies; what is no number says nothing."""
    try:
        told = int(event.attributes.get("depth", "0")[:20])
    except ValueError:
        return 0
    return min(max(told, 0), _DEEPEST)


def schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event as it travels: its attributes, and its payload as data."""
    data = event.model_json_schema(by_alias=False, ref_template="#/$defs/{model}")
    definitions = data.pop("$defs", {})
    properties: dict[str, Any] = {
        name: {"type": "string", "description": says} for name, says in _ATTRIBUTES.items()
    }
    properties["specversion"]["const"] = SPECVERSION
    properties["type"]["const"] = event.kind
    properties["time"]["format"] = "date-time"
    properties["data"] = data
    found: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event.kind,
        "type": "object",
        "properties": properties,
        "required": [*_REQUIRED, "data"],
    }
    return {**found, "$defs": definitions} if definitions else found
