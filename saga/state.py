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
    """Where a saga stands, in the words an operator sees."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    #: Something failed for good and waits for a person; `SagaState.reason` says what.
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
    """Where one step stands.  A step that was never begun has no state at all."""

    #: Its command is out and the outcome is not known.
    COMMANDED = "commanded"
    #: It waits for an outside message.
    WAITING = "waiting"
    #: Its command is to be taken back, if nobody started it.
    REVOKING = "revoking"
    #: Taken back before anyone started it: nothing was done.
    REVOKED = "revoked"
    #: Given up: it may have happened, or happen yet.
    IN_DOUBT = "in_doubt"
    #: The outcome came.
    DONE = "done"
    #: The action returned None.
    SKIPPED = "skipped"
    #: The business said no, in the command's own handler: nothing was done.
    REJECTED = "rejected"
    #: The business said no further down, after earlier hops had committed.
    REJECTED_LATE = "rejected_late"
    #: Its compensation is out.
    COMPENSATING = "compensating"
    #: What it did is undone.
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
    # Not taken back: known by its outcome, in doubt if it is overdue, and else awaited further.
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
    """One step of one saga."""

    phase: Phase
    #: Grows whenever a command of the step must be a new message: it is replayed, or compensated
    #: once more.
    generation: int = 1
    #: The how-manieth consumed message ended it: the order of completion.
    position: int | None = None
    #: Why the business said no.
    rejection: str | None = None
    #: Why it cannot go on.
    fault: str | None = None
    #: The parked messages that are the cause of the fault, if any are.
    parked: tuple[UUID, ...] = ()
    #: Whether its time is over, so that it is not awaited once it could not be taken back.
    overdue: bool = False
    #: Whether it was given up with an outcome unknown; a success that comes late is undone then.
    doubt: bool = False
    #: Failures that may have left something, and are taken into account: one that is told again
    #: says nothing new.
    failures: tuple[UUID, ...] = ()
    #: Whether it turned out to have happened while its compensation was out already.
    again: bool = False
    #: The generation whose command first meant what the step's command means.  All that mean the
    #: same have one idempotency key, until the effect is known to be undone.
    intent: int = 1
    #: The same of its compensation, if an operator said that an earlier one had no effect.
    undo_intent: int | None = None
    #: The context that its command went to, if a compensation is to be told.
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
    """

    id: UUID
    data: D
    status: Status = Status.RUNNING
    direction: Direction = Direction.FORWARD
    steps: Mapping[str, StepState] = field(default_factory=dict)
    #: Messages consumed so far.
    consumed: int = 0
    #: Why it is to be undone though nothing was rejected: it was cancelled, or is overdue.
    cancelled: str | None = None
    #: Outside messages that came before their step waited for them, in the order in which they came.
    early: tuple[Early, ...] = ()
    #: How often steps were ordered before the saga went back to do them again.
    generations: Mapping[str, int] = field(default_factory=dict)
    #: Of steps that are done again, though it is not known that nothing stands of what they did, the
    #: generation whose command first meant the same.
    intents: Mapping[str, int] = field(default_factory=dict)
    #: While going back to this step only, to go forward from it again.
    rewind_to: str | None = None
    #: Messages to the saga itself that are parked because one of its functions raised: id to
    #: error.  Each goes when its message is consumed after all.
    faults: Mapping[UUID, str] = field(default_factory=dict)
    #: Messages above its start that handlers handled: none, unless a handler started it.
    depth: int = 0
    #: What another release stored with the data, which the class here does not read.
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
