"""Blocked on: what a saga waits for now, in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from boundary.queries.open_deliveries import Head, OpenCount, OpenDelivery
from boundary.queries.time_format import clock
from internals.store.delivery import DeliveryState
from saga.messages import Done, Settled
from saga.state import IN_FLIGHT, Phase

#: Characters of an error that a sentence quotes.
_QUOTED = 200
#: Deliveries that a sentence names of those below one step.
_NAMED = 3

_NOTHING = "nothing that is under way can bring it: `saga trace` shows where it ended"


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
    #: Under which its causal undo is counted, while it is being undone.
    undo_id: UUID | None = None
    #: Whether it may have had an effect elsewhere that nobody knows of.
    doubt: bool = False
    #: When its time is over, for one that waits for an outside message.
    until: datetime | None = None


def waits_for(
    steps: Sequence[StepDetail],
    deliveries: Sequence[OpenDelivery],
    counts: Mapping[UUID, OpenCount],
    commands: Mapping[UUID, str],
    now: datetime,
) -> str | None:
    """Return what the saga waits for, in one sentence; None if it waits for nothing.

    Args:
        steps: What it has begun.
        deliveries: Its open deliveries, the most telling first.
        counts: How many there are, by command.
        commands: The step of each command.
        now: When all of these were read.
    """
    parts = []
    told: set[UUID] = set()
    for step in steps:
        if step.phase is Phase.WAITING:
            parts.append(_outside(step, now))
        if step.phase not in IN_FLIGHT or step.command_id is None:
            continue
        # An undo waits for what is open still below the commands that it undoes, too.
        undone = [id for id, name in commands.items() if name == step.name]
        roots = {step.command_id} if step.undo_id is None else set(undone)
        told |= roots
        below = [d for d in deliveries if d.root_id in roots and (_is_trouble(d) or not d.deadline)]
        count = sum((counts[root] for root in roots if root in counts), OpenCount())
        parts.append(_step(step, below, count, now))
    others = [d for d in deliveries if d.root_id not in told and _is_trouble(d)]
    parts.extend(_delivery(delivery, now) for delivery in others)
    return ". ".join(dict.fromkeys(parts)) or None


def _step(step: StepDetail, below: Sequence[OpenDelivery], count: OpenCount, now: datetime) -> str:
    undo = step.undo_id is not None
    settled = step.phase is not Phase.COMPENSATING and step.awaits[:1] == (Settled.kind,)
    said = f"step {step.name}: {'is being undone' if undo else _awaited(step, now)}"
    names = _names(below, count, now)
    counted = (undo or settled) and bool(names)
    if counted:
        said += f"{', ' if undo else '; '}{_how_many(count)}"
    if step.fault is not None and not any(d.state is DeliveryState.PARKED for d in below):
        return "; ".join((said, f"it cannot go on: {_quote(step.fault)}", *names))
    if not names:
        return f"{said}; {_NOTHING}"
    colon = counted and count.deliveries + count.undos > 0
    return f"{said}{': ' if colon else '; '}{'; '.join(names)}"


def _outside(step: StepDetail, now: datetime) -> str:
    """What a step that waits for an outside message is to be sent, as far as it is known here."""
    kinds = " or ".join(step.awaits) or "a message"
    until = "" if step.until is None else f", until {clock(step.until, now)}"
    fault = "" if step.fault is None else f"; it cannot go on: {_quote(step.fault)}"
    return f"step {step.name}: waits for {kinds} from outside{until}{fault}"


def _awaited(step: StepDetail, now: datetime) -> str:
    assert step.asked_at is not None
    outcome = step.awaits[0] if step.awaits else "an answer"
    if step.phase is Phase.COMPENSATING:
        outcome = f"its compensation {step.command}"
    elif outcome == Done.kind:
        outcome = f"{step.command} to be done"
    elif outcome == Settled.kind:
        outcome = f"everything below {step.command} to be done"
    return f"waits for {outcome}, asked of {step.asked_of} at {clock(step.asked_at, now)}"


def _how_many(count: OpenCount) -> str:
    n, undos = count.deliveries, count.undos
    counts = [f"{undos} undo{'s' * (undos != 1)}"] * (undos > 0)
    counts += [f"{n} {'delivery' if n == 1 else 'deliveries'}"] * (n > 0)
    if not counts:
        return "nothing is open any more"
    return f"{' and '.join(counts)} {'is' if undos + n == 1 else 'are'} open"


def _names(below: Sequence[OpenDelivery], count: OpenCount, now: datetime) -> list[str]:
    """The most telling deliveries, one of each sort, and how many there are besides."""
    sorts: dict[object, OpenDelivery] = {}
    for delivery in below:
        if not (delivery.undoes and delivery.behind):  # undos go one after the other, always
            sorts.setdefault(_sort(delivery), delivery)
    named = [_delivery(delivery, now) for delivery in list(sorts.values())[:_NAMED]]
    if more := count.deliveries + count.undos + count.own - len(named):
        named.append(f"and {more} more" if named else f"{more} are under way")
    return named


def _sort(delivery: OpenDelivery) -> object:
    """What deliveries have in common when it is enough to name one of them."""
    behind = delivery.behind and delivery.behind.message_id
    kind, tried = _what(delivery), (delivery.state, delivery.attempts, delivery.last_error)
    return kind, delivery.consumer, tried, delivery.held, behind


def _delivery(delivery: OpenDelivery, now: datetime) -> str:
    what, consumer = _what(delivery), delivery.consumer
    error = _error(delivery)
    if delivery.state is DeliveryState.PARKED:
        return f"{what} is parked at {consumer}{_after(delivery)}{error}"
    if delivery.behind is not None:
        return f"{what} waits for its turn at {consumer} behind {_head(delivery)}{error}"
    if delivery.held:
        return f"{what} is held at {consumer} until past events are handed over{error}"
    if delivery.attempts:
        again = "" if delivery.due_at is None else f" at {clock(delivery.due_at, now)}"
        return f"{what} failed {_times(delivery)} at {consumer} and is tried again{again}{error}"
    if delivery.yields:
        times = "once" if delivery.yields == 1 else f"{delivery.yields} times"
        again = "" if delivery.due_at is None else f", next at {clock(delivery.due_at, now)}"
        return f"{what} gave way to the database {times} at {consumer}{again}{error}"
    return f"{what} is with {consumer} since {clock(delivery.sent_at, now)}{error}"


def _head(delivery: OpenDelivery) -> str:
    """For what it waits, by its id too: its kind is mostly the same."""
    head = delivery.behind
    assert head is not None
    of = f" of {head.of}" if head.of else ""
    what = f"{_what(head)} {head.message_id}{of}"
    if head.state is DeliveryState.PARKED:
        # What is the saga's own is told of by itself.
        return f"{what}, which is parked{'' if head.own else _after(head) + _error(head)}"
    if head.attempts:
        return f"{what}, which failed {_times(head)}{_error(head)}"
    return what


def _what(delivery: OpenDelivery | Head) -> str:
    return f"undo of {delivery.undoes}" if delivery.undoes else delivery.kind


def _after(delivery: OpenDelivery | Head) -> str:
    n = delivery.attempts
    return f" after {n} attempt{'s' * (n != 1)}" if n else ""


def _times(delivery: OpenDelivery | Head) -> str:
    return "once" if delivery.attempts == 1 else f"{delivery.attempts} times"


def _error(delivery: OpenDelivery | Head) -> str:
    return "" if delivery.last_error is None else f": {_quote(delivery.last_error)}"


def _is_trouble(delivery: OpenDelivery) -> bool:
    return delivery.state is DeliveryState.PARKED or delivery.last_error is not None


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…"
