"""Consumer: the owner of an inbox, and what one hop of it did."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from internals.database.connections import Database
from internals.hop.colocation import HopTransaction


class Unprotected(Exception):
    """A handler failed in a way that undoes the whole hop, which is run again at once.

    The consumer knows by now whose fault it was, or takes care from now on.
    """


class Overran(Exception):
    """A handler was ended, and the hop's session with it: whatever it had claimed is free.

    Args:
        outcome: Waits until what becomes of the handler's delivery is written, and returns the
            consumers to ring.
    """

    def __init__(self, outcome: Callable[[], frozenset[str]]) -> None:
        super().__init__()
        self.outcome = outcome


#: Called with the consumer's database once the hop is committed; returns the consumers to ring.
AfterCommit = Callable[[Database], frozenset[str]]

#: Called with an error of the commit; says whether the hop is to be run again at once.
Refused = Callable[[Exception], bool]


def nobodys(_: Exception) -> bool:
    """The error is no delivery's fault."""
    return False


@dataclass(frozen=True, slots=True)
class Handled:
    """What one hop did, for the caller that runs the next one."""

    #: Deliveries that were claimed.
    claimed: int = 0
    #: Deliveries that are settled by this hop, whatever became of them.
    settled: int = 0
    #: Whether more may be due: the batch was full, or not all of it was settled.
    more: bool = False
    #: Consumers that got something: the caller rings their doorbells after the commit.
    woken: frozenset[str] = field(default_factory=frozenset)
    #: Whether nothing was looked at, since another process has a batch of this consumer's.
    missed: bool = False
    #: Does what cannot be done in this transaction, such as a call under a lease.
    after_commit: AfterCommit | None = None
    #: Told if the commit fails.
    refused: Refused = field(default=nobodys, compare=False, repr=False)

    def followed_by(self, name: str, other: "Handled") -> "Handled":
        """Return this hop, in whose transaction the consumer `name` then did `other`."""
        more = frozenset({name} if other.more else ())
        return replace(self, woken=self.woken - {name} | other.woken | more)


class Consumer(Protocol):
    """A context's handlers, or the orchestrator of one saga."""

    @property
    def name(self) -> str:
        """The consumer's name, and its queue's."""

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        """Claim up to `limit` deliveries, handle and settle them, and write what they send.

        What goes to colocated sagas is consumed by them at once.  Everything happens in this one
        transaction, which the caller commits.
        """
