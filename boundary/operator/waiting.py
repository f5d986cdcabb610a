"""Waiting: what a saga waits for now, in one sentence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from boundary.operator.moments import clock
from internals.inbox import DeliveryState
from internals.remote_sql import FORWARDED_YEAR
from saga.messages import Done
from saga.state import IN_FLIGHT, Phase

#: Characters of an error that a sentence quotes.
_QUOTED = 200


@dataclass(frozen=True, slots=True)
class StepDetail:
    """One step that a saga has begun, with the command it sent last."""

    name: str
    phase: Phase
    generation: int
    #: Why the business said no.
    rejection: str | None
    #: Why it cannot go on.
    fault: str | None
    #: None for a step that sent no command, such as a skipped one.
    command_id: UUID | None = None
    command: str | None = None
    asked_of: str | None = None
    asked_at: datetime | None = None
    #: Kinds that end it, the good outcome first.
    awaits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenDelivery:
    """A delivery of the saga's that is not over: pending, or parked."""

    message_id: UUID
    kind: str
    consumer: str
    state: DeliveryState
    attempts: int
    last_error: str | None
    due_at: datetime
    sent_at: datetime
    root_id: UUID


def waits_for(
    steps: Sequence[StepDetail], deliveries: Sequence[OpenDelivery], now: datetime
) -> str | None:
    """Return what the saga waits for, in one sentence; None if it waits for nothing.

    Args:
        steps: What it has begun.
        deliveries: All of its open deliveries.
        now: When both were read.
    """
    parts = []
    roots = set()
    for step in steps:
        if step.phase in IN_FLIGHT and step.command_id is not None:
            below = [d for d in deliveries if d.root_id == step.command_id]
            roots.add(step.command_id)
            parts.append("; ".join(_step(step, below, now)))
    others = [d for d in deliveries if d.root_id not in roots and _is_trouble(d)]
    parts.extend(_delivery(delivery, now) for delivery in others)
    return ". ".join(_unique(parts)) or None


def _step(step: StepDetail, below: Sequence[OpenDelivery], now: datetime) -> Iterator[str]:
    assert step.asked_at is not None
    outcome = step.awaits[0] if step.awaits else "an answer"
    if step.phase is Phase.COMPENSATING:
        outcome = f"its compensation {step.command}"
    elif outcome == Done.kind:
        outcome = f"{step.command} to be done"
    asked = f"asked of {step.asked_of} at {clock(step.asked_at, now)}"
    yield f"step {step.name}: waits for {outcome}, {asked}"
    if step.fault is not None and not any(d.state is DeliveryState.PARKED for d in below):
        yield f"it cannot go on: {_quote(step.fault)}"
    elif not below:
        yield "nothing that is under way can bring it: `saga trace` shows where it ended"
    for delivery in sorted(below, key=lambda d: d.state is not DeliveryState.PARKED)[:3]:
        yield _delivery(delivery, now)


def _delivery(delivery: OpenDelivery, now: datetime) -> str:
    kind, consumer, attempts = delivery.kind, delivery.consumer, delivery.attempts
    error = "" if delivery.last_error is None else f": {_quote(delivery.last_error)}"
    if delivery.state is DeliveryState.PARKED:
        after = f" after {attempts} attempt{'s' * (attempts != 1)}" if attempts else ""
        return f"{kind} is parked at {consumer}{after}{error}"
    if attempts:
        times = "once" if attempts == 1 else f"{attempts} times"
        there = delivery.due_at.year == FORWARDED_YEAR  # where its database is, nobody knows when
        tried = "is tried again" if there else f"is tried again at {clock(delivery.due_at, now)}"
        return f"{kind} failed {times} at {consumer} and {tried}{error}"
    return f"{kind} is with {consumer} since {clock(delivery.sent_at, now)}{error}"


def _is_trouble(delivery: OpenDelivery) -> bool:
    return delivery.state is DeliveryState.PARKED or delivery.last_error is not None


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…"


def _unique(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(parts))
