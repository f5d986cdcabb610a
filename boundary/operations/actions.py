"""Actions: one action of an operator, in a transaction of its own, or only tried.

The one place where operators' surfaces change anything.  Each act is committed with its audit, and
doorbells are rung after the commit.  A dry run does the same and rolls it back, so it meets the
same refusals.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from boundary.orchestration.operator_actions import Acted
from boundary.queries.query import query
from boundary.queries.reference import saga_status
from boundary.runtime import Runtime
from boundary.runtime.composition import administration_of, wiring_of
from internals.database.commit_points import Boundary, transaction
from internals.database.unit_of_work import UnitOfWork
from internals.ids import uuid7
from saga.errors import ActRefused
from saga.messages import Event, Message

_SENT = "SELECT saga_id, kind FROM {schema}.outbox WHERE id = %(id)s"


@dataclass(frozen=True, slots=True)
class Signalled:
    """What became of a signal."""

    message_id: UUID
    #: False if it had been sent before, and so was not sent again.
    sent: bool


def act_on_saga(
    runtime: Runtime, saga_id: UUID, act: Message, *, actor: str, dry_run: bool = False
) -> Acted:
    """Replay, skip or cancel: `act` is the message that says so, with its reason.

    Raises:
        UnknownSaga: There is no such saga, or the application lacks its definition.
        ActRefused: It cannot be done now.
        PayloadError: What the act brings, or what is stored, does not fit.
    """
    with attempt(runtime, dry_run) as unit:
        acted = administration_of(runtime).acts.act(unit, saga_id, act, actor=actor)
    if not dry_run:
        wiring_of(runtime).broker.ring(acted.woken)
    return acted


def signal_saga(
    runtime: Runtime,
    saga_id: UUID,
    event: Event,
    *,
    actor: str,
    reason: str,
    id: UUID | None = None,
    dry_run: bool = False,
) -> Signalled:
    """Send a saga an outside message, as an operator, which is written to the audit.

    Raises what `Runtime.signal` raises, and `ActRefused` for a saga that is over and for an `id`
    that another message has.
    """
    message_id = id or uuid7()
    schema = runtime.settings.db_schema
    with attempt(runtime, dry_run) as unit:
        before = query(unit, schema, _SENT, id=message_id)
        if before and before[0] != (saga_id, event.kind):
            raise ActRefused(f"{message_id} is the id of another message; give this one its own")
        woken = administration_of(runtime).acts.signal(
            unit, saga_id, event, id=message_id, actor=actor, reason=reason
        )
        if before:
            return Signalled(message_id, sent=False)
        status = saga_status(unit, schema, saga_id)  # locked by the signal
        if status.final:
            raise ActRefused(f"saga {saga_id} is {status}, so it waits for nothing any more")
    if not dry_run:
        wiring_of(runtime).broker.ring(woken)
    return Signalled(message_id, sent=True)


def retry_parked(
    runtime: Runtime,
    message_id: UUID,
    *,
    actor: str,
    reason: str,
    consumer: str | None = None,
    dry_run: bool = False,
) -> frozenset[str]:
    """Deliver a parked message again, to all where it is parked or to one consumer.

    Returns the consumers that get it.  Raises `ActRefused` if it is not parked.
    """
    with attempt(runtime, dry_run) as unit:
        woken = administration_of(runtime).acts.parked.retry(
            unit, [message_id], actor=actor, reason=reason, consumer=consumer
        )
    if not dry_run:
        wiring_of(runtime).broker.ring(woken)
    return woken


def drop_parked(
    runtime: Runtime,
    message_id: UUID,
    *,
    actor: str,
    reason: str,
    consumer: str | None = None,
    dry_run: bool = False,
) -> None:
    """Give up a parked message, as `retry_parked` delivers it again; the row stays."""
    with attempt(runtime, dry_run) as unit:
        woken = administration_of(runtime).acts.parked.drop(
            unit, [message_id], actor=actor, reason=reason, consumer=consumer
        )
    if not dry_run:
        wiring_of(runtime).broker.ring(woken)


class _DryRun(Exception):
    """Rolls back what was only tried."""


@contextmanager
def attempt(runtime: Runtime, dry_run: bool) -> Iterator[UnitOfWork]:
    """A transaction of an operator's: committed at the end, or rolled back if only tried."""
    try:
        with transaction(wiring_of(runtime).database, Boundary.ACT) as unit:
            yield unit
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
