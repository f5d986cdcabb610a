"""State of a saga: what is stored, what it may become, and nothing else.

The tables below are the whole of it; the diagrams in the documentation are generated from them,
and `decide` may move a saga only along them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel

from saga.unknown_fields import Unknown

D = TypeVar("D", bound=BaseModel)
S = TypeVar("S")


class Status(StrEnum):
    """Where a saga stands, in the words an operator sees.

    Attributes:
        STUCK: Something failed for good and waits for a person; `SagaState.reason` says what.
    """

    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"
    COMPLETED = "completed"
    COMPENSATED = "compensated"

    @property
    def final(self) -> bool:
        """Whether a saga in this status is over."""
        return self in (Status.COMPLETED, Status.COMPENSATED)


#: Status to the statuses it may become.
TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.RUNNING: (Status.COMPLETED, Status.COMPENSATING, Status.COMPENSATED, Status.STUCK),
    # Back to running only when a person has it done again from an earlier step.
    Status.COMPENSATING: (
        Status.COMPENSATED,
        Status.STUCK,
        Status.RUNNING,
        Status.COMPLETED,
    ),
    Status.STUCK: (
        Status.RUNNING,
        Status.COMPENSATING,
        Status.COMPLETED,
        Status.COMPENSATED,
    ),
    Status.COMPLETED: (),
    # Only what comes late of a step in doubt, and left something, opens a saga again, to undo that.
    Status.COMPENSATED: (Status.COMPENSATING, Status.STUCK),
}


class Direction(StrEnum):
    """Which way a saga goes; kept apart from the status, so that a stuck one knows it."""

    FORWARD = "forward"
    BACKWARD = "backward"


class Phase(StrEnum):
    """Where one step stands.  A step that was never begun has no state at all.

    Attributes:
        COMMANDED: Its command is out and the outcome is not known.
        WAITING: It waits for an outside message.
        REVOKING: Its command is to be revoked, if it was not started.
        REVOKED: Revoked before it was started: nothing was done.
        IN_DOUBT: Given up: it may have happened, or happen yet.
        DONE: The outcome came.
        SKIPPED: The action returned None.
        REJECTED: The business said no, in the command's own handler: nothing was done.
        REJECTED_LATE: The business said no further down, after earlier hops had committed.
        COMPENSATING: Its compensation is out.
        COMPENSATED: What it did is undone.
    """

    COMMANDED = "commanded"
    WAITING = "waiting"
    REVOKING = "revoking"
    REVOKED = "revoked"
    IN_DOUBT = "in_doubt"
    DONE = "done"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    REJECTED_LATE = "rejected_late"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


#: Phase to the phases it may become.
STEP_TRANSITIONS: Mapping[Phase, tuple[Phase, ...]] = {
    Phase.COMMANDED: (
        Phase.DONE,
        Phase.REJECTED,
        Phase.REJECTED_LATE,
        Phase.REVOKING,
        Phase.REVOKED,
        Phase.IN_DOUBT,
        Phase.SKIPPED,
    ),
    Phase.WAITING: (Phase.DONE, Phase.REJECTED, Phase.SKIPPED),
    # Not revoked: known by its outcome, in doubt if it is overdue, and else awaited further.
    Phase.REVOKING: (
        Phase.REVOKED,
        Phase.COMMANDED,
        Phase.IN_DOUBT,
        Phase.DONE,
        Phase.REJECTED,
        Phase.REJECTED_LATE,
    ),
    Phase.REVOKED: (),
    Phase.IN_DOUBT: (
        Phase.DONE,
        Phase.REJECTED,
        Phase.REJECTED_LATE,
        Phase.COMPENSATING,
        Phase.COMPENSATED,
        Phase.SKIPPED,
    ),
    Phase.DONE: (Phase.COMPENSATING, Phase.COMPENSATED),
    Phase.SKIPPED: (),
    Phase.REJECTED: (),
    Phase.REJECTED_LATE: (Phase.COMPENSATING, Phase.COMPENSATED),
    Phase.COMPENSATING: (Phase.COMPENSATED,),
    # Again, when it turns out late that the step in doubt did happen.
    Phase.COMPENSATED: (Phase.COMPENSATING,),
}

#: Phases in which the outcome of a step, or of its compensation, is awaited.
IN_FLIGHT = frozenset({Phase.COMMANDED, Phase.WAITING, Phase.REVOKING, Phase.COMPENSATING})
#: Phases in which the step has, or may have, effects that a compensation would undo.
STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE, Phase.IN_DOUBT})
#: Phases in which the forward command is out.
ORDERED = frozenset({Phase.COMMANDED, Phase.REVOKING})


def changed(state: S, **changes: Any) -> S:
    """Return a copy of a state with these fields changed.

    It is `dataclasses.replace` at a fraction of its price: a hop moves hundreds of states.
    """
    new: S = object.__new__(type(state))
    new.__dict__.update(state.__dict__, **changes)
    return new


@dataclass(frozen=True)
class StepState:
    """One step of one saga.

    Attributes:
        generation: Grows whenever a command of the step must be a new message: it is replayed, or
            compensated once more.
        position: The number of the consumed message that ended it: the order of completion.
        rejection: Why the business said no.
        fault: Why it cannot go on.
        parked: The parked messages that are the cause of the fault, if any are.
        overdue: Whether its time is over, so that it is not awaited once it could not be
            revoked.
        doubt: Whether it was given up with an outcome unknown; a success that comes late is undone
            then.
        failures: Failures that may have left something, and are taken into account: one that is
            told again says nothing new.
        again: Whether it turned out to have happened while its compensation was out already.
        intent: The generation whose command first meant what the step's command means.  All that
            mean the same have one idempotency key, until the effect is known to be undone.
        undo_intent: The same of its compensation, if an operator said that an earlier one had no
            effect.
        context: The context that its command went to, if a compensation is to name it.
    """

    phase: Phase
    generation: int = 1
    position: int | None = None
    rejection: str | None = None
    fault: str | None = None
    parked: tuple[UUID, ...] = ()
    overdue: bool = False
    doubt: bool = False
    failures: tuple[UUID, ...] = ()
    again: bool = False
    intent: int = 1
    undo_intent: int | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Early:
    """An outside message that came before its step waited for it."""

    id: UUID
    kind: str
    payload: str


@dataclass(frozen=True)
class SagaState(Generic[D]):
    """One saga as it is stored.

    Steps are named, never counted, so that a deploy which inserts one does not re-point the others.

    Attributes:
        consumed: Messages consumed so far.
        cancelled: Why it is to be undone though nothing was rejected: it was cancelled, or is
            overdue.
        early: Outside messages that came before their step waited for them, in the order in which
            they came.
        generations: How often steps were ordered before the saga went back to do them again.
        intents: Of steps that are done again, though it is not known that nothing stands of what
            they did, the generation whose command first meant the same.
        rewind_to: While going back to this step only, to go forward from it again.
        faults: Messages to the saga itself that are parked because one of its functions raised: id
            to error.  Each goes when its message is consumed after all.
        depth: Messages above its start that handlers handled: none, unless a handler started it.
        unknown: What another release stored with the data, which the class here does not read.
    """

    id: UUID
    data: D
    status: Status = Status.RUNNING
    direction: Direction = Direction.FORWARD
    steps: Mapping[str, StepState] = field(default_factory=dict)
    consumed: int = 0
    cancelled: str | None = None
    early: tuple[Early, ...] = ()
    generations: Mapping[str, int] = field(default_factory=dict)
    intents: Mapping[str, int] = field(default_factory=dict)
    rewind_to: str | None = None
    faults: Mapping[UUID, str] = field(default_factory=dict)
    depth: int = 0
    unknown: Unknown | None = field(default=None, compare=False, repr=False)

    @property
    def reason(self) -> str | None:
        """Why it is stuck, or else the first no that it compensates for; None if all is well."""
        steps = sorted(self.steps.items(), key=lambda item: (item[1].position or 0, item[0]))
        faults = [self.faults[id] for id in sorted(self.faults)]
        stuck = [*faults, *(f"step {n}: {s.fault}" for n, s in steps if s.fault)]
        rejected = (f"step {n}: {s.rejection}" for n, s in steps if s.rejection)
        return "; ".join(stuck) or self.cancelled or next(rejected, None)

    @property
    def faulty(self) -> bool:
        """Whether anything keeps it from going on by itself."""
        return bool(self.faults) or any(step.fault for step in self.steps.values())

    def command_id(self, step: str, phase: Phase, generation: int) -> UUID:
        """Return the id of a step's command: the same decision made twice sends one message."""
        return uuid5(self.id, f"{step}:{phase}:{generation}")

    def intent_id(self, step: str, phase: Phase) -> UUID:
        """Return what the step's command, or its compensation, carries out.

        It is the same for all that mean the same.
        """
        known = self.steps[step]
        if phase is Phase.COMPENSATING and known.undo_intent is not None:
            return self.command_id(step, phase, known.undo_intent)
        return self.command_id(step, phase, known.intent)

    def timer_id(self, step: str | None, generation: int = 1) -> UUID:
        """Return the id of a step's deadline, or with no step that of the saga's."""
        return uuid5(self.id, f"{step or ''}:timeout:{generation}")

    def with_step(self, name: str, **changes: Any) -> "SagaState[D]":
        """Return this state with one step moved; raises ValueError for a move that no table has."""
        old = self.steps.get(name)
        new = StepState(**changes) if old is None else changed(old, **changes)
        if old is not None and new.phase not in (old.phase, *STEP_TRANSITIONS[old.phase]):
            raise ValueError(f"step {name!r} cannot go from {old.phase} to {new.phase}")
        return changed(self, steps={**self.steps, name: new})

    def with_status(self, status: Status) -> "SagaState[D]":
        """Return this state in another status; raises ValueError for a move that no table has."""
        if status is not self.status and status not in TRANSITIONS[self.status]:
            raise ValueError(f"a saga cannot go from {self.status} to {status}")
        return changed(self, status=status)


def start_id(saga_id: UUID) -> UUID:
    """Return the id of the message that started this saga."""
    return uuid5(saga_id, "start")
