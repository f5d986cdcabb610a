"""Finish: one statement settles a hop's deliveries, sends its messages and saves its sagas."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from internals.database.errors import describe
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.colocation import NOBODY, Folded, Folder
from internals.store.inbox import Inbox
from internals.store.outbox import Outbox, held_up, woken
from saga.envelope import Envelope, saga_consumer


class Ending(Protocol):
    """How a batch of a context's is written: `finish`, or what a database of its own does."""

    def __call__(
        self,
        unit: UnitOfWork,
        inbox: Inbox,
        outbox: Outbox,
        batch: Batch,
        *,
        folders: Mapping[str, Folder] = NOBODY,
    ) -> frozenset[str]:
        """Write it, and return the consumers to ring after the commit."""


def finish(
    unit: UnitOfWork,
    inbox: Inbox,
    outbox: Outbox,
    batch: Batch,
    *,
    sagas: Mapping[str, object] | None = None,
    folders: Mapping[str, Folder] = NOBODY,
) -> frozenset[str]:
    """Write a batch: settle, send, and save sagas, in one statement.

    A saga in `folders` consumes what is sent to it at once: its deliveries are written as done.

    Returns the consumers that got something; their doorbells are to be rung after the commit.
    Raises `IdConflict` where another message has the id of one that is sent.
    """
    judge_failed(unit, inbox, batch)
    if not (batch.settlements or batch.messages):
        return frozenset()
    folded = _fold(unit, batch, folders) if folders else None
    if folded is None:
        messages = outbox.parameters(batch.messages, key_wait=batch.key_wait)
    else:
        messages = outbox.parameters(
            (*batch.messages, *folded.messages), folded.heard, key_wait=batch.key_wait
        )
        batch.messages.extend(folded.messages)
        sagas = folded.sagas
    rows = inbox.finish(unit, batch.settlements, messages, sagas)
    outbox.refuse_others(unit, rows, batch.messages)
    got = woken(rows)
    # Before anything is taken back or undone below the commands that were just sent.
    got |= outbox.settling.count(unit, batch.messages, batch.closed, consumer=batch.consumer)
    if folded is not None:
        got |= folded.then()
    got |= outbox.settling.wake(unit, batch.keys | held_up(rows))
    return frozenset(got)


def judge_failed(unit: UnitOfWork, inbox: Inbox, batch: Batch) -> None:
    """Try failed commands again or park them, but for those that were given up meanwhile.

    As late as can be, since who gives one up waits from here on until the commit.
    """
    if not batch.failed:
        return
    given_up = inbox.given_up(unit, (f.delivery.message.id for f in batch.failed))
    for failed in batch.failed:
        started = given_up.get(failed.delivery.message.id)
        if started is None:
            batch.fail(failed)
            continue
        delivery = replace(failed.delivery, given_up=True, started=started)
        batch.give_up(delivery, describe(failed.error), took=failed.took)
    batch.failed.clear()


def _fold(unit: UnitOfWork, batch: Batch, folders: Mapping[str, Folder]) -> Folded | None:
    """Let the saga of which there are messages consume them; those of others go the long way."""
    for name, folder in folders.items():
        sent = [message for message in batch.messages if _is_for(message, name)]
        if sent:
            return folder.fold(unit, sent)
    return None


def _is_for(message: Envelope, consumer: str) -> bool:
    """Whether it goes to the saga of this name: a reply, or an event that its step awaits."""
    if message.recipient is not None or message.saga is None:
        return message.recipient == consumer
    return message.kind in message.awaits and saga_consumer(message.saga) == consumer
