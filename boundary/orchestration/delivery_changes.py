"""Delivery changes: what decisions want done to deliveries that exist already.

Most decisions want nothing of the kind, and cost no statement then.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from internals.database.unit_of_work import UnitOfWork
from internals.store.causal_undo import Undoing
from internals.store.open_deliveries import OpenDeliveries
from internals.store.sql import Statements
from saga.decide import Decision
from saga.envelope import Category, Envelope
from saga.errors import ActRefused
from saga.messages import Revoked


class Consequences:
    """Gathers the revocations, cleared deadlines and retries of one hop, and carries them out.

    Args:
        consumer: The saga's consumer.
        statements: For the schema.
        open_deliveries: Counts the deliveries that are revoked.
    """

    def __init__(
        self, consumer: str, statements: Statements, open_deliveries: OpenDeliveries
    ) -> None:
        #: Other consumers that got something by it.
        self.woken: set[str] = set()
        self._consumer = consumer
        self._statements = statements
        self._open_deliveries = open_deliveries
        self._unwind: list[tuple[UUID, tuple[UUID, ...], Envelope]] = []
        self._revoke: list[tuple[UUID, str, Envelope]] = []
        self._unbegun: list[UUID] = []
        self._clear: list[UUID] = []
        self._retry: list[UUID] = []
        self._supersede: list[UUID] = []

    def note(self, decision: Decision[Any], message: Envelope) -> None:
        """Take note of what a decision on this message wants."""
        self._revoke.extend((root, step, message) for root, step in decision.revoke)
        self._unbegun.extend(decision.unbegun)
        self._unwind.extend((undo, roots, message) for undo, roots in decision.unwind)
        self._clear.extend(decision.clear)
        self._retry.extend(decision.retry)
        self._supersede.extend(decision.supersede)

    def carry_out(self, unit: UnitOfWork, *, unless: Sequence[str] = ()) -> list[Envelope]:
        """Run the statements that are needed; returns the answers to revocations, to be sent.

        Raises `ActRefused` where somebody has retried what is to be superseded, and it is in one
        of the states of `unless` by now.
        """
        if self._supersede:
            rows = unit.run(
                self._statements.drop_parked,
                {
                    "id": self._supersede,
                    "of": None,
                    "outcome": "superseded",
                    "why": "superseded: its step was given up or replayed",
                },
            )
            self.woken |= self._open_deliveries.close(unit, rows, quiet=True)
            gone = set(self._supersede) - {id for id, _, _ in rows}
            # What was dropped will not run; what was retried may, beside what is ordered again.
            if retried := self._in_states(unit, gone, unless):
                raise ActRefused(
                    f"delivery {min(retried)} is not parked any more: it was retried, and "
                    "what becomes of it is not known yet"
                )
        answers = self._carry_out_revocations(unit) if self._revoke else []
        for undo, roots, message in self._unwind:
            assert message.saga_id is not None
            assert message.saga is not None
            undoing = Undoing(undo, roots, message.saga_id, message.saga, message.id)
            self.woken |= self._open_deliveries.unwind(unit, undoing)
        return answers

    def clear_deadlines(self, unit: UnitOfWork) -> None:
        """Clear deadlines that are not needed any more.

        To be run when the hop's own deliveries are settled: a deadline that was consumed just now
        is among the cleared ones, and stays consumed.
        """
        if self._clear:
            unit.run(self._statements.clear, {"id": self._clear, "consumer": self._consumer})

    def retry(self, unit: UnitOfWork, grace: float) -> set[str]:
        """Deliver parked messages again; returns the consumers to ring.  For operators' acts."""
        if not self._retry:
            return set()
        # What the saga itself is to consume is delivered again even if it was dropped: it would be
        # waited for otherwise, for ever.
        rows = unit.run(
            self._statements.retry_parked,
            {"id": self._retry, "of": None, "grace": grace, "dropped_at": self._consumer},
        )
        gone = set(self._retry) - {id for id, _ in rows}
        if dropped := self._in_states(unit, gone, ("revoked",)):
            raise ActRefused(
                f"delivery {min(dropped)} is not parked any more: it was dropped; skip its step"
            )
        if gone == set(self._retry):
            raise ActRefused(
                f"delivery {min(gone)} is not parked any more: it was retried; if nothing comes of "
                "it, skip its step"
            )
        return {consumer for _, consumer in rows}

    def _in_states(self, unit: UnitOfWork, ids: set[UUID], states: Sequence[str]) -> set[UUID]:
        if not ids or not states:
            return set()
        asked = {"id": list(ids), "state": list(states)}
        return {id for (id,) in unit.run(self._statements.in_states, asked)}

    def _carry_out_revocations(self, unit: UnitOfWork) -> list[Envelope]:
        """Revoke what was not started, and mark all of it as given up.

        A command that is being handled right now is locked, or leased, and so not revoked: its
        outcome is not known.  When that run fails, it finds the mark.  A pivot has none.
        """
        roots = sorted({root for root, _, _ in self._revoke})
        given_up = [root for root in roots if root not in self._unbegun]
        if given_up:
            unit.run(self._statements.give_up, {"id": given_up})
        # In a statement of its own: it sees what failed until the mark was set.
        asked = {"root": roots, "unbegun": self._unbegun}
        rows = unit.run(self._statements.revoke, asked)
        self.woken |= self._open_deliveries.close(unit, [row[:3] for row in rows], quiet=True)
        taken = {id: started for id, _, _, started in rows}
        if under_way := [root for root in given_up if root not in taken]:
            told = unit.run(self._statements.recall, {"id": under_way})
            self.woken |= {consumer for (consumer,) in told}
        return [
            Envelope(
                id=uuid5(root, f"revoked:{message.id}"),
                kind=Revoked.kind,
                category=Category.REPLY,
                payload=Revoked(
                    step=step, revoked=root in taken, started=taken.get(root, False)
                ).to_json(),
                saga_id=message.saga_id,
                saga=message.saga,
                causation_id=message.id,
                root_id=root,
                recipient=self._consumer,
                sender=self._consumer,
            )
            for root, step, message in self._revoke
        ]
