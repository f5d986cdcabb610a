"""State of a saga: what is stored, what it may become, and nothing else.

The tables below are the whole of it; the diagrams in the documentation are generated from them,
and `decide` may move a saga only along them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel

D = TypeVar("D", bound=BaseModel)


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
        return not TRANSITIONS[self]


#: Status to the statuses it may become.
TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.RUNNING: (Status.COMPLETED, Status.COMPENSATING, Status.COMPENSATED, Status.STUCK),
    Status.COMPENSATING: (Status.COMPENSATED, Status.STUCK),
    Status.STUCK: (
        Status.RUNNING,
        Status.COMPENSATING,
        Status.COMPLETED,
        Status.COMPENSATED,
    ),
    Status.COMPLETED: (),
    Status.COMPENSATED: (),
}


class Direction(StrEnum):
    """Which way a saga goes; kept apart from the status, so that a stuck one knows it."""

    FORWARD = "forward"
    BACKWARD = "backward"


class Phase(StrEnum):
    """Where one step stands.  A step that was never begun has no state at all."""

    #: Its command is out and the outcome is not known.
    COMMANDED = "commanded"
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
    Phase.COMMANDED: (Phase.DONE, Phase.REJECTED, Phase.REJECTED_LATE),
    Phase.DONE: (Phase.COMPENSATING, Phase.COMPENSATED),
    Phase.SKIPPED: (),
    Phase.REJECTED: (),
    Phase.REJECTED_LATE: (Phase.COMPENSATING, Phase.COMPENSATED),
    Phase.COMPENSATING: (Phase.COMPENSATED,),
    Phase.COMPENSATED: (),
}

#: Phases in which a command of the step is out.
IN_FLIGHT = frozenset({Phase.COMMANDED, Phase.COMPENSATING})
#: Phases in which the step has effects that a compensation would undo.
STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE})


@dataclass(frozen=True, slots=True)
class StepState:
    """One step of one saga."""

    phase: Phase
    #: Grows when a person replays the step, so that its command is a new message.
    generation: int = 1
    #: The how-manieth consumed message ended it: the order of completion.
    position: int | None = None
    #: Why the business said no.
    rejection: str | None = None
    #: Why it cannot go on, while a delivery under it is parked.
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class SagaState(Generic[D]):
    """One saga as it is stored.  Steps are named, never counted, so that a deploy which inserts
    one does not re-point the others."""

    id: UUID
    data: D
    status: Status = Status.RUNNING
    direction: Direction = Direction.FORWARD
    steps: Mapping[str, StepState] = field(default_factory=dict)
    #: Messages consumed so far.
    consumed: int = 0
    #: Messages to the saga itself that are parked because one of its functions raised: id to
    #: error.  Each goes when its message is consumed after all.
    faults: Mapping[UUID, str] = field(default_factory=dict)

    @property
    def reason(self) -> str | None:
        """Why it is stuck, or why it compensates; None while nothing went wrong."""
        steps = self.steps.items()
        stuck = [*self.faults.values(), *(f"step {n}: {s.fault}" for n, s in steps if s.fault)]
        rejected = (f"step {n}: {s.rejection}" for n, s in steps if s.rejection)
        return "; ".join(stuck) or next(rejected, None)

    def command_id(self, step: str, phase: Phase, generation: int) -> UUID:
        """Return the id of a step's command: the same decision made twice sends one message."""
        return uuid5(self.id, f"{step}:{phase}:{generation}")

    def with_step(self, name: str, **changes: Any) -> "SagaState[D]":
        """Return this state with one step moved; raises ValueError for a move that no table has."""
        old = self.steps.get(name)
        new = StepState(**changes) if old is None else replace(old, **changes)
        if old is not None and new.phase not in (old.phase, *STEP_TRANSITIONS[old.phase]):
            raise ValueError(f"step {name!r} cannot go from {old.phase} to {new.phase}")
        return replace(self, steps={**self.steps, name: new})

    def with_status(self, status: Status) -> "SagaState[D]":
        """Return this state in another status; raises ValueError for a move that no table has."""
        if status is not self.status and status not in TRANSITIONS[self.status]:
            raise ValueError(f"a saga cannot go from {self.status} to {status}")
        return replace(self, status=status)


def start_id(saga_id: UUID) -> UUID:
    """Return the id of the message that started this saga."""
    return uuid5(saga_id, "start")
