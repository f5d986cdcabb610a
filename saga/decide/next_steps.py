"""Next steps: what a state calls for, forward or backward.  Part of `decide`; pure.

The same state always calls for the same messages, with the same ids.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Generic, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel

from saga.causal import CAUSAL
from saga.decide.outcomes import apply
from saga.decide.rewinding import rewound, to_undo
from saga.definition import Saga
from saga.envelope import Category, Envelope, command_recipient, saga_consumer
from saga.messages import Command, Done, TimedOut
from saga.retry import Retry
from saga.state import IN_FLIGHT, ORDERED, Direction, Phase, SagaState, Status, start_id
from saga.steps import Step, Wait
from saga.validation.functions import check_returned

D = TypeVar("D", bound=BaseModel)


@dataclass(slots=True)
class Course(Generic[D]):
    """Gathers what is to be sent, revoked and cleared while the state is moved on."""

    saga: Saga[D]
    cause: Envelope
    send: list[Envelope] = field(default_factory=list)
    #: Roots whose undelivered messages are to be revoked, each with the step's name.
    revoke: dict[UUID, str] = field(default_factory=dict)
    #: Of those the commands that may have had an effect which nobody could undo.
    unbegun: list[UUID] = field(default_factory=list)
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
        if state.faults or (state.faulty and not self._goes_on(state)):
            return state.with_status(Status.STUCK)
        if state.direction is Direction.FORWARD:
            return self._forward(state)
        return self._backward(state)

    def order(self, state: SagaState[D], name: str, command: Command) -> SagaState[D]:
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
        intent = state.intent_id(name, known.phase)
        undoes = None
        if not forward and known.context is not None:
            undoes = f"{known.context}:{state.intent_id(name, Phase.COMMANDED)}"
        sent = _command(self.saga, state, command, id, awaits, retry, self.cause)
        self.send.append(replace(sent, intent=None if intent == id else intent, undoes=undoes))
        if timeout is not None:
            self.set_timer(state, name, id, timeout)
        if forward and callable(step.compensation):
            return state.with_step(name, context=sent.recipient)
        return state

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
        """Revoke what is out and not started, since the saga turns back.

        Waits end at once.  What is overdue is not awaited further if it cannot be revoked.
        """
        for name, step in state.steps.items():
            if step.phase is Phase.WAITING:
                state = state.with_step(name, phase=Phase.REJECTED, position=state.consumed)
            elif step.phase in ORDERED and step.fault:
                state = self.give_up_failed(state, name, overdue=overdue)
            elif step.phase in ORDERED:
                state = state.with_step(name, phase=Phase.REVOKING, overdue=step.overdue or overdue)
                self.take_back(state, name)
        return state

    def take_back(self, state: SagaState[D], name: str) -> None:
        """Ask for a step's command back; a pivot's only if nobody has begun it.

        Once a pivot was called its outcome alone decides, so it is tried until that is known.
        """
        root = state.command_id(name, Phase.COMMANDED, state.steps[name].generation)
        self.revoke[root] = name
        if self.saga.step(name).pivot:
            self.unbegun.append(root)

    def give_up_failed(
        self, state: SagaState[D], name: str, *, overdue: bool = False
    ) -> SagaState[D]:
        """Give up a step that failed for good, of a saga that turns back.

        Its own command is revoked, as one that was not started.  Where it failed further down,
        earlier hops did commit, so it is undone too.  Of a pivot only the former can be done.
        """
        known = state.steps[name]
        own = {state.command_id(name, Phase.COMMANDED, g + 1) for g in range(known.generation)}
        below = [id for id in known.parked if id not in own]
        if self.saga.step(name).pivot and (below or not known.parked):
            return state
        if below:
            self.supersede.extend(below)  # nobody may deliver it again
            return state.with_step(
                name,
                phase=Phase.IN_DOUBT,
                position=state.consumed,
                doubt=True,
                fault=None,
                parked=(),
            )
        self.revoke[state.command_id(name, Phase.COMMANDED, known.generation)] = name
        return state.with_step(
            name,
            phase=Phase.REVOKING,
            overdue=known.overdue or overdue,
            fault=None,
            parked=(),
        )

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

    def _goes_on(self, state: SagaState[D]) -> bool:
        """Whether only compensations failed, of a saga that goes on with the others."""
        return self.saga.on_compensation_fault == "go_on" and all(
            step.phase is Phase.COMPENSATING for step in state.steps.values() if step.fault
        )

    def _forward(self, state: SagaState[D]) -> SagaState[D]:
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
        phase = Phase.SKIPPED if command is None else Phase.COMMANDED
        intent = state.intents.get(step.name, generation)
        state = state.with_step(step.name, phase=phase, generation=generation, intent=intent)
        return state if command is None else self.order(state, step.name, command)

    def begin_wait(self, state: SagaState[D], step: Wait[D], generation: int) -> SagaState[D]:
        """Wait for an outside message, unless it is there already."""
        state = state.with_step(step.name, phase=Phase.WAITING, generation=generation)
        first = next((early for early in state.early if early.kind in step.awaits), None)
        if first is not None:
            rest = tuple(early for early in state.early if early is not first)
            signal = replace(self.cause, kind=first.kind, payload=first.payload)
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
        for name in to_undo(self.saga, state):
            compensation = self.saga.step(name).compensation
            causal = compensation is CAUSAL
            command = compensation(state.data) if callable(compensation) else None
            if command is None and not causal:
                if compensation is not None:
                    intents = {**state.intents, name: state.steps[name].intent}  # not undone
                    state = replace(state, intents=intents)
                    state = state.with_step(name, phase=Phase.COMPENSATED, again=False)
                continue
            state = replace(state, intents={n: g for n, g in state.intents.items() if n != name})
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
                state = self.order(state, name, command)
            return state.with_status(Status.COMPENSATING)
        if state.faulty:
            return state.with_status(Status.STUCK)
        if state.rewind_to is not None:
            return self._forward(rewound(self.saga, state))
        return state.with_status(Status.COMPENSATED)


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
