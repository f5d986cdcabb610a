"""CloudEvent: an event as it travels to and from systems that are not built with this framework.

The attributes are those of CloudEvents 1.0 in its binary mode: each is a header of its own, and the
event's payload, JSON, is the body.  Names of extensions are lower-case letters, as the
specification wants them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from saga.envelope import Envelope
from saga.messages import Event

SPECVERSION = "1.0"
CONTENT_TYPE = "application/json"

#: Ids that are no UUIDs become one in this namespace, the same each time.
_NAMESPACE = UUID("8f0f6f0e-6a43-5d0f-9a3c-2f8a4f6f3b1d")

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


def outgoing(message: Envelope, sent_at: datetime, key: str | None) -> CloudEvent:
    """Return a message of the outbox as it goes out.

    Args:
        message: The event.
        sent_at: When it was committed, as the database's clock has it.
        key: Its ordering key, if it has one.
    """
    attributes = {
        "specversion": SPECVERSION,
        "id": str(message.id),
        "source": message.sender or "host",
        "type": message.kind,
        "time": sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": CONTENT_TYPE,
    }
    optional = {
        "partitionkey": key,
        "causationid": message.causation_id,
        "saga": message.saga,
        "sagaid": message.saga_id,
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


def identity(event: CloudEvent) -> UUID:
    """Return the id under which an event is stored: its own, or one that its source and id make."""
    try:
        return UUID(event.id)
    except ValueError:
        return uuid5(_NAMESPACE, f"{event.attributes['source']}\n{event.id}")


def cause(event: CloudEvent) -> UUID | None:
    """Return the id of the message that it says it was caused by; None if it says none."""
    try:
        return UUID(event.attributes["causationid"])
    except (KeyError, ValueError):
        return None


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
