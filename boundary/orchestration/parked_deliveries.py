"""Parked deliveries: what operators do to them, one by one or at all consumers of a message."""

from collections.abc import Sequence
from uuid import UUID

from boundary.orchestration.audit import Audit, check_words
from internals.database.unit_of_work import UnitOfWork
from internals.store.outbox import Outbox
from internals.store.sql import Statements
from saga.errors import ActRefused


class ParkedDeliveries:
    """Retries and drops parked deliveries.  Stateless; safe to share between threads.

    Args:
        outbox: Knows which steps wait until a delivery is settled.
        statements: For the inbox.
        audit: Where each act is recorded.
        grace: Seconds that a retried delivery is left to its doorbell before relays look for it.
    """

    def __init__(
        self, outbox: Outbox, statements: Statements, audit: Audit, *, grace: float
    ) -> None:
        self._outbox = outbox
        self._statements = statements
        self._audit = audit
        self._grace = grace

    def retry(
        self,
        unit: UnitOfWork,
        ids: Sequence[UUID],
        *,
        actor: str,
        reason: str,
        consumer: str | None = None,
    ) -> frozenset[str]:
        """Deliver parked messages again, to all where they are parked or to one consumer.

        Returns the consumers to ring.  Raises `ActRefused` if one of them is not parked.
        """
        check_words(actor, reason)
        rows = unit.run(
            self._statements.retry_parked,
            {"id": list(ids), "of": consumer, "grace": self._grace, "dropped_at": None},
        )
        if missing := set(ids) - {id for id, _ in rows}:
            self._refuse_given_up(unit, missing)
        self._record(unit, "retry", ids, len({id for id, _ in rows}), actor, reason, consumer)
        return frozenset(consumer for _, consumer in rows)

    def drop(
        self,
        unit: UnitOfWork,
        ids: Sequence[UUID],
        *,
        actor: str,
        reason: str,
        consumer: str | None = None,
    ) -> frozenset[str]:
        """Give up parked messages, at all where they are parked or at one consumer.

        The rows stay, with the reason.

        Returns the consumers to ring: deliveries that waited for these can go on, and a saga that
        waits until all is done is notified.  Raises `ActRefused` if one of them is not parked.
        """
        check_words(actor, reason)
        rows = unit.run(
            self._statements.drop_parked,
            {
                "id": list(ids),
                "of": consumer,
                "outcome": "dropped",
                "why": f"dropped: {reason}",
            },
        )
        self._record(unit, "drop", ids, len({id for id, _, _ in rows}), actor, reason, consumer)
        return frozenset(self._outbox.open_deliveries.close(unit, rows))

    def _refuse_given_up(self, unit: UnitOfWork, ids: set[UUID]) -> None:
        """Say so if one of these was not delivered again because its saga gave it up."""
        given_up = [id for (id,) in unit.run(self._statements.given_up, {"id": sorted(ids)})]
        if given_up:
            raise ActRefused(
                f"delivery {given_up[0]} cannot start again: its saga gave up the step, and "
                "compensates it if needed; start the saga again, or replay it, to have it done"
            )

    def _record(
        self,
        unit: UnitOfWork,
        act: str,
        ids: Sequence[UUID],
        done: int,
        actor: str,
        reason: str,
        consumer: str | None,
    ) -> None:
        if done < len(set(ids)):
            raise ActRefused(
                f"{len(set(ids)) - done} of {len(set(ids))} deliveries are not parked; "
                "look at `saga parked list`"
            )
        detail = {} if consumer is None else {"consumer": consumer}
        for id in ids:
            self._audit.record(unit, actor, f"parked {act}", reason, detail, message_id=id)
