"""Deadlines: what becomes of a saga when one passes.  Part of `decide`; pure."""

from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel

from saga.decide import outcomes
from saga.decide.decision import Decision, stale
from saga.decide.next_steps import Course
from saga.definition import Saga
from saga.envelope import Envelope
from saga.messages import TimedOut
from saga.state import ORDERED, Direction, Phase, SagaState

D = TypeVar("D", bound=BaseModel)


def timed_out(
    saga: Saga[D], state: SagaState[D], message: Envelope, course: Course[D]
) -> SagaState[D] | Decision[D]:
    """Return the state after a deadline of a step, or of the saga, passed."""
    name = TimedOut.from_json(message.payload).step
    if name is None:
        return _saga_timed_out(saga, state, course)
    return _step_timed_out(saga, state, name, message, course)


def _saga_timed_out(
    saga: Saga[D], state: SagaState[D], course: Course[D]
) -> SagaState[D] | Decision[D]:
    if state.status.final or outcomes.pivot_passed(saga, state):
        return stale(state)
    if state.direction is Direction.BACKWARD and state.rewind_to is None:
        # What it still awaits is awaited no longer.
        hangs = [s for s in state.steps.values() if s.phase in ORDERED and not s.overdue]
        return course.give_up(state, overdue=True) if hangs else stale(state)
    late = replace(
        state,
        direction=Direction.BACKWARD,
        cancelled="the deadline of the saga passed",
        rewind_to=None,
    )
    return course.give_up(late, overdue=True)


def _step_timed_out(
    saga: Saga[D], state: SagaState[D], name: str, message: Envelope, course: Course[D]
) -> SagaState[D] | Decision[D]:
    known = state.steps.get(name)
    if known is None:
        return stale(state)
    root = state.command_id(name, Phase.COMMANDED, known.generation)
    if message.id != state.timer_id(name, known.generation) and message.root_id != root:
        return stale(state)
    words = f"no outcome within {saga.step(name).timeout or saga.deadline}"
    if outcomes.pivot_passed(saga, state) and known.phase in (*ORDERED, Phase.WAITING):
        return state.with_step(name, fault=known.fault or words, overdue=True)
    if known.phase is Phase.WAITING:
        late = state.with_step(name, phase=Phase.REJECTED, position=state.consumed, rejection=words)
        return replace(late, direction=Direction.BACKWARD)
    if known.phase not in ORDERED or known.overdue:
        return stale(state)
    late = state.with_step(name, phase=Phase.REVOKING, overdue=True, rejection=words)
    if known.phase is not Phase.REVOKING:  # otherwise the answer is under way already
        course.take_back(state, name)
    return replace(late, direction=Direction.BACKWARD)
