"""Course: what a state calls for, forward or backward.  Part of `decide`; pure.

The same state always calls for the same messages, with the same ids.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Generic, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel

from saga.causal import CAUSAL
from saga.definition import Saga, Step, Wait
from saga.envelope import Category, Envelope, command_recipient, saga_consumer
from saga.functions import check_returned
from saga.messages import Command, Done, TimedOut
from saga.outcomes import apply, pivot_passed
from saga.retry import Retry
from saga.state import IN_FLIGHT, ORDERED, STANDING, Direction, Phase, SagaState, Status, start_id

D = TypeVar("D", bound=BaseModel)


@dataclass(slots=True)
class Course(Generic[D]):
    """Gathers what is to be sent, revoked and cleared while the state is moved on."""

    saga: Saga[D]
    cause: Envelope
    send: list[Envelope] = field(default_factory=list)
    #: Roots whose undelivered messages are to be taken back, each with the step's name.
    revoke: dict[UUID, str] = field(default_factory=dict)
    #: Compensations that undo all that was caused by a step's commands, with those commands.
    unwind: dict[UUID, tuple[UUID, ...]] = field(default_factory=dict)
    #: Deadlines that are not needed any more.
    clear: list[UUID] = field(default_factory=list)
    #: Parked messages to deliver again.
    retry: list[UUID] = field(default_factory=list)
    #: Parked messages that a new one takes the place of.
    supersede: list[UUID] = field(default_factory=list)

    def proceed(self, state: SagaState[D]) -> SagaState[D]:
        """Send what the state calls for, and return the state after that."""
        state = self._heed_cancellation(state)
        if state.faults or (state.faulty and not self._goes_on(state)):
            return state.with_status(Status.STUCK)
        if state.direction is Direction.FORWARD:
            return self._forward(state)
        return self._backward(state)

    def order(self, state: SagaState[D], name: str, command: Command) -> None:
        """Send the step's command, or its compensation, as the phase says."""
        known = state.steps[name]
        if not isinstance(command, Command) or not command.kind:
            check_returned(command, f"a function of step {name!r} of {self.saga.name}")
            raise TypeError(
                f"step {name!r} of {self.saga.name} must command with a Command that declares a "
                f"kind, not with {type(command).__name__}"
            )
        step = self.saga.step(name)
        forward = known.phase is Phase.COMMANDED
        awaits: tuple[str, ...] = (Done.kind,)
        retry, timeout = None, None
        if forward and isinstance(step, Step):
            awaits, retry, timeout = step.awaits, step.retry, step.timeout
        id = state.command_id(name, known.phase, known.generation)
        self.send.append(_command(self.saga, state, command, id, awaits, retry, self.cause))
        if timeout is not None:
            self.set_timer(state, name, id, timeout)

    def order_undo(self, state: SagaState[D], name: str) -> None:
        """Have everything undone that the step's commands caused."""
        generation = state.steps[name].generation
        self.unwind[state.command_id(name, Phase.COMPENSATING, generation)] = tuple(
            state.command_id(name, Phase.COMMANDED, g + 1) for g in range(generation)
        )

    def await_on(self, state: SagaState[D], name: str) -> None:
        """Give a step whose command is out still, and overdue, its time once more."""
        timeout = self.saga.step(name).timeout or self.saga.deadline
        if timeout is not None:
            root = state.command_id(name, Phase.COMMANDED, state.steps[name].generation)
            self.set_timer(state, name, root, timeout, uuid5(root, f"again:{state.consumed}"))

    def set_timer(
        self,
        state: SagaState[D],
        step: str | None,
        root: UUID,
        after: timedelta,
        id: UUID | None = None,
    ) -> None:
        """Send the saga a deadline of a step, or with no step its own."""
        generation = state.steps[step].generation if step else 1
        self.send.append(
            Envelope(
                id=id or state.timer_id(step, generation),
                kind=TimedOut.kind,
                category=Category.TIMEOUT,
                payload=TimedOut(step=step).to_json(),
                saga_id=state.id,
                saga=self.saga.name,
                causation_id=self.cause.id,
                root_id=root,
                recipient=saga_consumer(self.saga.name),
                sender=saga_consumer(self.saga.name),
                delay=after.total_seconds(),
            )
        )

    def give_up(self, state: SagaState[D], *, overdue: bool) -> SagaState[D]:
        """Take back what is out and not started, since the saga turns back.

        Waits end at once.  What is overdue is not awaited further if it cannot be taken back.
        """
        for name, step in state.steps.items():
            if step.phase is Phase.WAITING:
                state = state.with_step(name, phase=Phase.REJECTED, position=state.consumed)
            elif step.phase in ORDERED and not step.fault:
                state = state.with_step(name, phase=Phase.REVOKING, overdue=step.overdue or overdue)
                root = state.command_id(name, Phase.COMMANDED, step.generation)
                self.revoke[root] = name
        return state

    def clear_timers(self, before: SagaState[D], after: SagaState[D]) -> None:
        """Clear the deadlines of steps that are out no more, and the saga's when it is over."""
        out = (*ORDERED, Phase.WAITING)
        for name, old in before.steps.items():
            new = after.steps.get(name)
            awaited = new and new.phase in out and new.generation == old.generation
            awaited = awaited and not (new and new.overdue and new.phase is Phase.REVOKING)
            timed = getattr(self.saga.step(name), "timeout", None) is not None
            if timed and old.phase in out and not awaited:
                self.clear.append(before.timer_id(name, old.generation))
        if self.saga.deadline is not None and after.status.final and not before.status.final:
            self.clear.append(after.timer_id(None))

    def _heed_cancellation(self, state: SagaState[D]) -> SagaState[D]:
        """Turn a cancelled saga back as soon as it is known where it stands."""
        if state.cancelled is None or state.direction is Direction.BACKWARD:
            return state
        if pivot_passed(self.saga, state):
            return replace(state, cancelled=None)  # too late: it only goes forward
        if any(step.phase in ORDERED for step in state.steps.values()):
            return state
        return self.give_up(replace(state, direction=Direction.BACKWARD), overdue=False)

    def _goes_on(self, state: SagaState[D]) -> bool:
        """Whether only compensations failed, of a saga that goes on with the others."""
        return self.saga.on_compensation_fault == "go_on" and all(
            step.phase is Phase.COMPENSATING for step in state.steps.values() if step.fault
        )

    def _forward(self, state: SagaState[D]) -> SagaState[D]:
        if state.cancelled is not None:
            return state.with_status(Status.RUNNING)  # nothing new until it is known
        for group in self.saga.groups:
            for step in group:
                if step.name not in state.steps:
                    state = self._begin(state, step)
            if state.direction is Direction.BACKWARD:  # an early message said no
                return self._backward(self.give_up(state, overdue=False))
            if state.faulty:
                return state.with_status(Status.STUCK)
            if any(state.steps[step.name].phase in IN_FLIGHT for step in group):
                return state.with_status(Status.RUNNING)
        return state.with_status(Status.COMPLETED)

    def _begin(self, state: SagaState[D], step: Step[D] | Wait[D]) -> SagaState[D]:
        generation = state.generations.get(step.name, 0) + 1
        if isinstance(step, Wait):
            return self.begin_wait(state, step, generation)
        command = step.action(state.data)
        if command is None:
            return state.with_step(step.name, phase=Phase.SKIPPED, generation=generation)
        state = state.with_step(step.name, phase=Phase.COMMANDED, generation=generation)
        self.order(state, step.name, command)
        return state

    def begin_wait(self, state: SagaState[D], step: Wait[D], generation: int) -> SagaState[D]:
        state = state.with_step(step.name, phase=Phase.WAITING, generation=generation)
        for kind in step.awaits:
            if kind in state.early:
                (_, payload), *later = state.early[kind]
                rest = {k: texts for k, texts in state.early.items() if k != kind}
                if later:
                    rest[kind] = tuple(later)
                signal = replace(self.cause, kind=kind, payload=payload)
                moved = apply(self.saga, replace(state, early=rest), step, signal)
                assert moved is not None  # the step takes this kind
                return moved
        if step.timeout is not None:
            self.set_timer(state, step.name, start_id(state.id), step.timeout)
        return state

    def _backward(self, state: SagaState[D]) -> SagaState[D]:
        going = [s for s in state.steps.values() if s.phase in IN_FLIGHT and not s.fault]
        if going:
            return state.with_status(Status.COMPENSATING)
        for name in self._standing(state):
            compensation = self.saga.step(name).compensation
            causal = compensation is CAUSAL
            command = compensation(state.data) if callable(compensation) else None
            if command is None and not causal:
                if compensation is not None:
                    state = state.with_step(name, phase=Phase.COMPENSATED, again=False)
                continue
            again = state.steps[name].again
            state = state.with_step(
                name,
                phase=Phase.COMPENSATING,
                generation=state.steps[name].generation + again,
                again=False,
            )
            if command is None:
                self.order_undo(state, name)
            else:
                self.order(state, name, command)
            return state.with_status(Status.COMPENSATING)
        if state.faulty:
            return state.with_status(Status.STUCK)
        if state.rewind_to is not None:
            return self._forward(self._rewound(state))
        return state.with_status(Status.COMPENSATED)

    def _standing(self, state: SagaState[D]) -> list[str]:
        """The steps to undo, the last one that was known first."""
        within = names_from(self.saga, state.rewind_to)
        standing = [
            (step.position or 0, name)
            for name, step in state.steps.items()
            if (step.phase in STANDING or step.again) and name in within
        ]
        return [name for _, name in sorted(standing, reverse=True)]

    def _rewound(self, state: SagaState[D]) -> SagaState[D]:
        """Forget the steps that are to be done again, but not how often they were."""
        within = names_from(self.saga, state.rewind_to)
        return replace(
            state,
            direction=Direction.FORWARD,
            rewind_to=None,
            steps={n: s for n, s in state.steps.items() if n not in within},
            generations={
                **state.generations,
                **{n: s.generation for n, s in state.steps.items() if n in within},
            },
        )


def names_from(saga: Saga[D], first: str | None) -> set[str]:
    """Return the steps of the group that `first` is in, and of all later groups."""
    names: set[str] = set()
    for group in saga.groups:
        if names or first is None or any(step.name == first for step in group):
            names.update(step.name for step in group)
    return names


def _command(
    saga: Saga[D],
    state: SagaState[D],
    command: Command,
    id: UUID,
    awaits: tuple[str, ...],
    retry: Retry | None,
    cause: Envelope,
) -> Envelope:
    return Envelope(
        id=id,
        kind=command.kind,
        category=Category.COMMAND,
        payload=command.to_json(),
        saga_id=state.id,
        saga=saga.name,
        causation_id=cause.id,
        root_id=id,
        recipient=command_recipient(command.kind),
        sender=saga_consumer(saga.name),
        awaits=awaits,
        retry=retry,
        depth=state.depth,
    )
