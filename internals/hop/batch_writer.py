"""Batch writer: one statement settles a hop's deliveries, sends its messages and saves its sagas."""

from collections.abc import Mapping
from dataclasses import replace

from internals.database.errors import describe
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.colocation import HopTransaction
from internals.store.inbox import Inbox
from internals.store.outbox import Outbox, held_up, woken


class BatchWriter:
    """Writes what becomes of one consumer's deliveries.  Stateless; safe to share between threads.

    Args:
        inbox: The deliveries.
        outbox: Where what they send is written.
    """

    def __init__(self, inbox: Inbox, outbox: Outbox) -> None:
        self.inbox = inbox
        self.outbox = outbox

    def write(
        self, hop: HopTransaction, batch: Batch, *, sagas: Mapping[str, object] | None = None
    ) -> frozenset[str]:
        """Write a batch: settle, send, and save sagas, in one statement.

        A colocated saga consumes what is sent to it at once: its deliveries are written as done.

        Returns the consumers that got something: the caller rings their doorbells after the commit.
        Raises `IdConflict` where another message has the id of one that is sent.
        """
        unit, outbox = hop.unit, self.outbox
        self.judge_failed(unit, batch)
        if not (batch.settlements or batch.messages):
            return frozenset()
        folded = hop.fold(batch.messages)
        if folded is None:
            messages = outbox.parameters(batch.messages, key_wait=batch.key_wait)
        else:
            messages = outbox.parameters(
                (*batch.messages, *folded.messages), folded.heard, key_wait=batch.key_wait
            )
            batch.messages.extend(folded.messages)
            sagas = folded.sagas
        rows = self.inbox.finish(unit, batch.settlements, messages, sagas)
        outbox.refuse_others(unit, rows, batch.messages)
        got = woken(rows)
        # Before anything is revoked or undone below the commands that were just sent.
        got |= outbox.open_deliveries.count(
            unit, batch.messages, batch.closed, consumer=batch.consumer
        )
        if folded is not None:
            got |= folded.then()
        got |= outbox.open_deliveries.wake(unit, batch.keys | held_up(rows))
        return frozenset(got)

    def judge_failed(self, unit: UnitOfWork, batch: Batch) -> None:
        """Try failed commands again or park them, but for those that were given up meanwhile.

        As late as can be, since who gives one up waits from here on until the commit.
        """
        if not batch.failed:
            return
        given_up = self.inbox.given_up(unit, (f.delivery.message.id for f in batch.failed))
        for failed in batch.failed:
            started = given_up.get(failed.delivery.message.id)
            if started is None:
                batch.fail(failed)
                continue
            delivery = replace(failed.delivery, given_up=True, started=started)
            batch.give_up(delivery, describe(failed.error), took=failed.took)
        batch.failed.clear()
