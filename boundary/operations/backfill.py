"""Backfilling: a new subscriber is handed past events, at a bounded rate, and then the live ones."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from boundary.operations.actions import attempt
from boundary.queries.query import query
from boundary.runtime import Runtime
from boundary.runtime.composition import administration_of, wiring_of
from internals.context import Context
from internals.database.unit_of_work import UnitOfWork
from internals.store.backfill import Backfill, BackfillState
from internals.store.subscriptions import subscribe
from saga.errors import ActRefused

#: Events that one transaction hands over at most.
_PORTION = 500
#: Seconds between two looks whether what began before is over.
_PAUSE = 0.1

_SINCE = "SELECT clock_timestamp() - %(age)s::interval"


class Stage(StrEnum):
    """What a backfill is doing."""

    #: Transactions that may not have seen the subscriptions are waited for.
    WAITING = "waiting"
    HANDING = "handing"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class BackfillStep:
    """How far it is."""

    stage: Stage
    state: BackfillState


def preview_backfill(runtime: Runtime, consumer: str, since: timedelta) -> int:
    """Return how many past events a backfill would hand over; changes nothing.

    Raises as `backfill` does.
    """
    _check(runtime, consumer)
    with attempt(runtime, dry_run=True) as unit:
        subscribe(unit, wiring_of(runtime).statements, _contexts(runtime, consumer))
        return _backfill(runtime, consumer).preview(unit, _moment(runtime, unit, since))


def backfill(
    runtime: Runtime,
    consumer: str,
    since: timedelta | None,
    *,
    rate: float,
    actor: str,
    reason: str,
) -> Iterator[BackfillStep]:
    """Hand a context past events in the order of the log, and tell how far it is.

    Stopped anywhere, it goes on where it was when it is called again without `since`; until it is
    finished, live events wait.

    Args:
        runtime: The application, which has the context.
        consumer: The context's name.
        since: How long ago the first of the events was sent, by Postgres' clock; None goes on with
            what was begun.
        rate: Events a second at most.
        actor: Who does it, for the audit.
        reason: Why.

    Raises:
        ActRefused: The application has no such context, it reacts to nothing, or another backfill
            of it is not finished.
    """
    _check(runtime, consumer)
    work = _backfill(runtime, consumer)
    with attempt(runtime, dry_run=False) as unit:
        subscribe(unit, wiring_of(runtime).statements, _contexts(runtime, consumer))
        state = work.hold(unit, None if since is None else _moment(runtime, unit, since))
        detail = {"consumer": consumer, "since": state.since.isoformat(), "rate": rate}
        administration_of(runtime).acts.audit.record(unit, actor, "backfill", reason, detail)
    if not state.until:
        yield from _wait(runtime, work)
        with attempt(runtime, dry_run=False) as unit:
            work.fix_ends(unit)
    yield from _hand(runtime, consumer, work, rate)
    with attempt(runtime, dry_run=False) as unit:
        work.end_hold(unit)
    yield from _wait(runtime, work)
    with attempt(runtime, dry_run=False) as unit:
        work.release(unit)
        state = _state(work, unit)
    wiring_of(runtime).broker.ring(frozenset({consumer}))
    yield BackfillStep(Stage.FINISHED, state)


def _hand(runtime: Runtime, consumer: str, work: Backfill, rate: float) -> Iterator[BackfillStep]:
    size = max(1, min(_PORTION, int(rate)))
    while True:
        began = time.monotonic()
        with attempt(runtime, dry_run=False) as unit:
            portion = work.hand(unit, size)
            state = _state(work, unit)
        if portion.handed:
            wiring_of(runtime).broker.ring(frozenset({consumer}))
        yield BackfillStep(Stage.HANDING, state)
        if portion.last:
            return
        time.sleep(max(0.0, portion.handed / rate - (time.monotonic() - began)))


def _wait(runtime: Runtime, work: Backfill) -> Iterator[BackfillStep]:
    with attempt(runtime, dry_run=False) as unit:
        barrier = work.barrier(unit)
    while True:
        with attempt(runtime, dry_run=False) as unit:
            if work.passed(unit, barrier):
                return
            state = _state(work, unit)
        yield BackfillStep(Stage.WAITING, state)
        time.sleep(_PAUSE)


def _check(runtime: Runtime, consumer: str) -> None:
    known = [context.name for context in wiring_of(runtime).contexts if context.subscriptions]
    if consumer not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise ActRefused(
            f"the application has no context {consumer!r} that reacts to events; {listed}"
        )


def _contexts(runtime: Runtime, consumer: str) -> list[Context]:
    return [context for context in wiring_of(runtime).contexts if context.name == consumer]


def _backfill(runtime: Runtime, consumer: str) -> Backfill:
    return Backfill(runtime.settings.db_schema, consumer)


def _moment(runtime: Runtime, unit: UnitOfWork, age: timedelta) -> datetime:
    [(moment,)] = query(unit, runtime.settings.db_schema, _SINCE, age=age)
    assert isinstance(moment, datetime)
    return moment


def _state(work: Backfill, unit: UnitOfWork) -> BackfillState:
    state = work.state(unit)
    assert state is not None
    return state
