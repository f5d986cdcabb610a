"""Open deliveries: those below a command are counted, where a saga wants to know when none is open.

The count changes in the transactions that open and close deliveries, so it is exact: the one that
closes the last delivery finds that it was the last, and notifies the saga.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from internals.database.lock_waits import KEY_WAIT, giving_way
from internals.database.unit_of_work import UnitOfWork
from internals.store.causal_undo import Undoing, unwind
from internals.store.json_rows import records
from internals.store.ordering import OrderedDeliveries
from internals.store.sql import Statements
from saga.causal import is_counted
from saga.envelope import Envelope
from saga.messages import RESERVED_PREFIX


@dataclass(frozen=True, slots=True)
class Closing:
    """A counted delivery that this transaction closes; or has parked, which closes nothing."""

    root_id: UUID
    #: The message of the delivery.
    cause: UUID
    closes: bool = True
    #: Whether the saga is not notified when all is done: it revoked the delivery itself, or
    #: it receives a rejection.
    quiet: bool = False


class OpenDeliveries:
    """Counts.  Stateless; safe to share between threads.

    Args:
        statements: For the schema.
        ordered: Whose turn it is with the keys of what is over.
    """

    def __init__(self, statements: Statements, ordered: OrderedDeliveries) -> None:
        self._statements = statements
        self._ordered = ordered
        self._grace = ordered.grace

    def count(
        self,
        unit: UnitOfWork,
        sent: Iterable[Envelope],
        closed: Sequence[Closing],
        *,
        consumer: str | None = None,
    ) -> set[str]:
        """Count what this transaction opened and closed; free if none of it is counted.

        Args:
            unit: The transaction, in which `sent` is written by now.
            sent: Messages, with their deliveries.
            closed: Deliveries.
            consumer: Whose they were.

        Returns the consumers that got something.
        """
        counted = [message.id for message in sent if is_counted(message.awaits)]
        if not (counted or closed):
            return set()
        parameters = {
            "sent": counted,
            "closed": records(
                {
                    "root": closing.root_id,
                    "cause": closing.cause,
                    "n": int(closing.closes),
                    "quiet": closing.quiet or None,
                    "place": place,
                }
                for place, closing in enumerate(closed)
            ),
            "consumer": consumer,
            "grace": self._grace,
        }
        if consumer is None:  # a host's call, which has a bound of its own
            rows = unit.run(self._statements.count, {**parameters, "key_wait": None})
        else:
            with giving_way():
                rows = unit.run(self._statements.count, {**parameters, "key_wait": KEY_WAIT})
        woken = set()
        for told, undo, root, saga_id, saga, cause in rows:
            if undo is None:
                woken.add(told)
            else:
                # It came late: what it did is undone as well, and what it sent is revoked.
                woken |= self.unwind(unit, Undoing(undo, [root], saga_id, saga, cause))
        return woken

    def close(
        self,
        unit: UnitOfWork,
        deliveries: Iterable[tuple[UUID, str, str | None]],
        *,
        quiet: bool = False,
    ) -> set[str]:
        """Count deliveries that were closed by hand, and let those behind them go on.

        What a saga itself is to consume was never counted.

        Args:
            unit: The transaction that closed them.
            deliveries: Message, consumer and ordering key of each.
            quiet: Whether their sagas know.

        Returns the consumers that got something.
        """
        deliveries = list(deliveries)
        woken = self.wake(unit, {key for _, _, key in deliveries if key is not None})
        ids = [id for id, consumer, _ in deliveries if not consumer.startswith(RESERVED_PREFIX)]
        if not ids:
            return woken
        roots: dict[UUID, UUID] = dict(unit.run(self._statements.counted, {"id": ids}))
        closed = [Closing(roots[id], id, quiet=quiet) for id in ids if id in roots]
        return woken | self.count(unit, (), closed)

    def undone(self, unit: UnitOfWork, messages: Iterable[Envelope]) -> set[UUID]:
        """Return the commands below which these messages are and nothing is to run any more."""
        roots = {m.root_id for m in messages if is_counted(m.awaits)}
        if not roots:
            return set()
        return {id for (id,) in unit.run(self._statements.undone, {"root": list(roots)})}

    def wake(self, unit: UnitOfWork, keys: set[str]) -> set[str]:
        """Let the next delivery of each key go on; returns whose they are."""
        return self._ordered.wake(unit, keys)

    def unwind(self, unit: UnitOfWork, undoing: Undoing) -> set[str]:
        """Have everything undone that some commands caused; returns the consumers to ring."""
        done = unwind(unit, self._statements, undoing, grace=self._grace)
        return done.woken | self.wake(unit, done.keys)
