"""Stream: what a bridge needs of a broker, so that each is spoken to in one place."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from boundary.bridges.cloud_event import CloudEvent

#: Seconds that a broker has to confirm what it was sent.
PATIENCE = 5.0


class StreamTrouble(Exception):
    """The stream cannot be reached, or does not do as it should: what was asked is asked again."""


class EventRefused(Exception):
    """The stream will never take this event, such as one that is too large."""


class Sink(Protocol):
    """Where events go."""

    def send(self, events: Sequence[CloudEvent]) -> Mapping[int, Exception]:
        """Put events on the stream, in this order, and wait until it has confirmed them.

        Returns of those that are not confirmed, by their place among these, why: `EventRefused`, or a `StreamTrouble`
        after which the event may be there all the same.  Takes a few seconds at most.
        """

    def close(self) -> None:
        """Close connections."""


class Source(Protocol):
    """Where events come from, in the name of a consumer group."""

    def poll(self, limit: int) -> Sequence[CloudEvent]:
        """Return what comes next, up to `limit` events; none after a second or so without any.

        Raises `StreamTrouble`.
        """

    def confirm(self) -> None:
        """Never give to this group again what was polled until now; raises `StreamTrouble`."""

    def close(self) -> None:
        """Leave the group; what was not confirmed is given to another reader, or to the next."""


class Stream(Protocol):
    """A topic or stream of some broker, as a program declares it."""

    def sink(self) -> Sink:
        """Return where events go; connects no earlier than needed."""

    def source(self, group: str) -> Source:
        """Return where events come from, for this group, unless the stream names its own."""
