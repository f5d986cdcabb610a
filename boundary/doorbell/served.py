"""Served: what a worker process needs of the runtime whose doorbells it answers."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

from internals.context import Context
from internals.hop.relay import Relay
from internals.hop.time_limits import Watch


class Answering(Protocol):
    """Answers in this process the doorbells that cannot ring."""

    def start(self, threads: int) -> None:
        """Begin, with as many threads as the worker has."""

    def stop(self) -> None:
        """Answer none any more."""

    def join(self) -> None:
        """Wait for those that are being answered."""


class Serve(Protocol):
    """Answers a doorbell in the calling thread."""

    def __call__(self, consumer: str, *, follow: bool = False) -> int:
        """Handle what is due for a consumer; returns how many deliveries that were."""


class Served(Protocol):
    """A runtime, as its worker knows it; its worker loop is one."""

    @property
    def broker(self) -> Any:
        """The doorbells' broker."""

    @property
    def contexts(self) -> Sequence[Context]:
        """The contexts that this process is given."""

    @property
    def own_databases(self) -> Container[str]:
        """The names of contexts' own databases that are known here."""

    @property
    def consumers(self) -> Mapping[str, Any]:
        """Those that have a doorbell, by name."""

    @property
    def watch(self) -> Watch:
        """Ends handlers that take too long."""

    @property
    def answering(self) -> Answering:
        """Handles deliveries of consumers whose doorbells cannot ring."""

    @property
    def serve(self) -> Serve:
        """Answers a doorbell in the calling thread."""

    def relays(self) -> Sequence[Relay]:
        """Return a relay for each database, home's first."""

    def subscribe_once(self) -> None:
        """Record the subscriptions, unless this process did so before."""

    def follow_no_further(self) -> None:
        """Let no thread follow what it sends, since the process ends."""

    def close(self) -> None:
        """Close connections."""
