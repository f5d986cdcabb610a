"""Unsubscribing: a release no longer reacts to an event, or a whole context is gone."""

import time
from dataclasses import dataclass

from boundary.operations.actions import attempt
from boundary.runtime import Runtime
from boundary.runtime.composition import administration_of, wiring_of
from internals.database.commit_points import Boundary, transaction
from internals.database.unit_of_work import UnitOfWork
from internals.store.backfill import Backfill
from internals.store.unsubscribe import Retiring
from saga.errors import ActRefused

#: Seconds between two looks whether what began before is over.
_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """What ended, or with a dry run would end."""

    consumer: str
    kinds: tuple[str, ...]
    #: Deliveries that were revoked.
    revoked: int
    #: Deliveries that are open still, since somebody handles them.
    open: int
    #: Whether a transaction that began before is not over, and may publish by the subscription yet.
    #: Unsubscribing once more revokes what comes of it.
    publishing: bool = False


def unsubscribe(
    runtime: Runtime,
    consumer: str,
    kind: str | None = None,
    *,
    actor: str,
    reason: str,
    dry_run: bool = False,
    patience: float = 30.0,
) -> Unsubscribed:
    """End a context's subscription, and revoke what is open for it.

    Steps that wait until all is settled end then, and other deliveries of an ordering key go on.

    Args:
        runtime: The application.
        consumer: The context's name; the application need not have it any more.
        kind: An event; if not given, all that the application does not react to.
        actor: Who does it, for the audit.
        reason: Why.
        dry_run: Only count.
        patience: Seconds to wait for what began before: transactions that may publish by the
            subscription yet, and handlers that run.

    Raises:
        ActRefused: The application still reacts to it, or there is nothing to end.
        PayloadError: The reason is blank, or too long.
    """
    retiring = administration_of(runtime).retiring(consumer)
    with attempt(runtime, dry_run) as unit:
        kinds = _kinds(runtime, retiring, unit, consumer, kind)
        count = retiring.count(unit, kinds)
        retiring.end(unit, kinds)
        detail = {"consumer": consumer, "kinds": list(kinds), "open": count}
        administration_of(runtime).acts.audit.record(unit, actor, "unsubscribe", reason, detail)
        barrier = Backfill(runtime.settings.db_schema, consumer).barrier(unit)
    if dry_run:
        return Unsubscribed(consumer, kinds, count, 0)
    return _revoke(runtime, retiring, consumer, kinds, f"unsubscribed: {reason}", barrier, patience)


def _revoke(
    runtime: Runtime,
    retiring: Retiring,
    consumer: str,
    kinds: tuple[str, ...],
    why: str,
    barrier: str,
    patience: float,
) -> Unsubscribed:
    log = Backfill(runtime.settings.db_schema, consumer)
    until = time.monotonic() + patience
    revoked = 0
    while True:
        with attempt(runtime, dry_run=False) as unit:
            over = log.passed(unit, barrier)
            done = retiring.revoke(unit, kinds, why)
        revoked += done.count
        if done.woken:
            wiring_of(runtime).broker.ring(done.woken)
        if done.count:
            continue
        with attempt(runtime, dry_run=False) as unit:
            left = retiring.count(unit, kinds)
        if (over and not left) or time.monotonic() > until:
            break
        time.sleep(_PAUSE)
    _revoke_elsewhere(runtime, retiring, kinds, why)
    return Unsubscribed(consumer, kinds, revoked, left, publishing=not over)


def _revoke_elsewhere(
    runtime: Runtime, retiring: Retiring, kinds: tuple[str, ...], why: str
) -> None:
    """What was forwarded to a database of its own is handled by nobody there either."""
    for reach in wiring_of(runtime).own_databases.reached.values():
        done = True
        while done:
            with transaction(reach, Boundary.ACT) as unit:
                done = retiring.revoke_forwarded(unit, kinds, why) > 0


def _kinds(
    runtime: Runtime, retiring: Retiring, unit: UnitOfWork, consumer: str, kind: str | None
) -> tuple[str, ...]:
    handled = {
        k for c in wiring_of(runtime).contexts if c.name == consumer for k, _ in c.subscriptions
    }
    if kind in handled:
        raise ActRefused(
            f"the application still reacts to {kind} in {consumer}, and its next worker would "
            "subscribe again; take the reaction out first"
        )
    subscribed, open = retiring.kinds(unit)
    for reach in wiring_of(runtime).own_databases.reached.values():
        with transaction(reach, Boundary.ACT) as there:
            open |= retiring.kinds(there)[1]
    ending = (subscribed | open) - handled
    if kind is not None:
        ending &= {kind}
    if not ending:
        what = kind or "anything that the application does not react to"
        known = f"; it is subscribed to {', '.join(sorted(subscribed))}" if subscribed else ""
        raise ActRefused(f"{consumer} is not subscribed to {what}{known}")
    return tuple(sorted(ending))
