"""Operator actions: what operators do to a saga.  Part of `decide`; pure.

Whether an act is allowed is asked first, with `refusal_of`; the answer is a sentence for the
operator.  The act itself is a message like any other, so history folds with it.
"""

import json
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from saga.causal import CAUSAL
from saga.decide.next_steps import Course
from saga.decide.outcomes import pivot_passed
from saga.decide.rewinding import names_from
from saga.definition import Saga
from saga.envelope import Envelope
from saga.errors import PayloadError
from saga.json_text import dump_json, first_problem
from saga.messages import Cancelled, Replayed, Skipped
from saga.state import IN_FLIGHT, ORDERED, Direction, Phase, SagaState, Status, StepState
from saga.steps import Step, Wait

D = TypeVar("D", bound=BaseModel)

#: How the reason of a saga that was cancelled begins.
_CANCELLED = "cancelled: "

Act = Cancelled | Replayed | Skipped

ACTS: dict[str, type[Act]] = {act.kind: act for act in (Cancelled, Replayed, Skipped)}


def refusal_of(saga: Saga[D], state: SagaState[D], act: Act) -> str | None:
    """Return why this act cannot be done to this saga now, or None if it can."""
    if isinstance(act, Cancelled):
        return _refusal_of_cancel(saga, state)
    if isinstance(act, Skipped):
        return _refusal_of_skip(state, act)
    return _refusal_of_replay(saga, state, act)


def act(saga: Saga[D], state: SagaState[D], message: Envelope, course: Course[D]) -> SagaState[D]:
    """Do what the operator says; the caller has asked `refusal_of` before."""
    asked = ACTS[message.kind].from_json(message.payload)
    if isinstance(asked, Cancelled):
        why = state.cancelled or f"{_CANCELLED}{asked.reason}"  # said twice, the first reason stays
        rewinding = state.rewind_to is not None
        state = replace(state, cancelled=why, rewind_to=None, direction=Direction.BACKWARD)
        # What waits for its outcome, since it was to be done again, waits for it no longer.
        return course.give_up(state, overdue=False) if rewinding else state
    if isinstance(asked, Skipped):
        return _skip(saga, state, asked.step, course)
    state = _corrected(saga, state, asked.data)
    return _replay(saga, state, asked.from_step, course, no_effect=asked.no_effect)


def _refusal_of_skip(state: SagaState[D], act: Skipped) -> str | None:
    known = state.steps.get(act.step)
    if known is None or not known.fault:
        faulty = ", ".join(n for n, s in state.steps.items() if s.fault) or "none"
        return f"only a step that failed can be skipped; failed: {faulty}"
    if known.phase is Phase.REVOKING:
        return f"the command of step {act.step} is being revoked; try again in a moment"
    return None


def _refusal_of_cancel(saga: Saga[D], state: SagaState[D]) -> str | None:
    if state.status.final:
        return f"it is {state.status} already"
    if state.cancelled is not None and state.cancelled.startswith(_CANCELLED):
        return None  # said twice: it is on its way
    if state.direction is Direction.BACKWARD and state.rewind_to is None:
        return "it is being compensated already"
    if pivot_passed(saga, state):
        return f"it has passed its pivot, step {saga.pivot}, and only goes forward"
    return None


def _refusal_of_replay(saga: Saga[D], state: SagaState[D], act: Replayed) -> str | None:
    first = act.from_step
    if state.status is not Status.STUCK:
        return f"it is {state.status}, and only a stuck saga can be replayed"
    try:
        _corrected(saga, state, act.data)
    except PayloadError as error:
        return str(error)
    if act.no_effect and not any(_sent_again(saga, state, name) for name in state.steps):
        return (
            "no command is sent again, so no earlier call can be declared without effect: "
            "what failed further down is delivered again as it is"
        )
    if first is None:
        return None
    names = [step.name for step in saga]
    if first not in names:
        return f"it has no step {first!r}; its steps are {', '.join(names)}"
    if first not in state.steps:
        return f"step {first} was not begun yet"
    if state.direction is Direction.BACKWARD:
        return "it is being compensated, so it cannot go forward from a step"
    if pivot_passed(saga, state) and names.index(first) <= names.index(saga.pivot or ""):
        return f"step {first} is not after the pivot, step {saga.pivot}, which cannot be undone"
    within = names_from(saga, first)
    fixed = [
        n
        for n in names
        if n in within
        and n in state.steps
        and state.steps[n].phase is Phase.DONE
        and isinstance(saga.step(n), Step)
        and saga.step(n).compensation is None
    ]
    if fixed:
        return f"step {fixed[0]} is done and has no compensation, so it would be done twice"
    return None


def _corrected(saga: Saga[D], state: SagaState[D], data: dict[str, Any]) -> SagaState[D]:
    if not data:
        return state
    unknown = sorted(set(data) - set(saga.data.model_fields))
    if unknown:
        raise PayloadError(f"the saga's data has no field {unknown[0]!r}")
    try:
        before = json.loads(dump_json(state.data, "the saga's data"))
        text = json.dumps({**before, **data})
        merged = saga.data.model_validate_json(text, by_alias=True, by_name=True)
    except ValidationError as error:
        raise PayloadError(f"the corrected data does not fit: {first_problem(error)}") from error
    return replace(state, data=merged)


def _below(state: SagaState[D], name: str) -> list[UUID]:
    """What is parked further down than the step's own command."""
    known = state.steps[name]
    own = {state.command_id(name, known.phase, g + 1) for g in range(known.generation)}
    return [id for id in known.parked if id not in own]


def _is_out(known: StepState) -> bool:
    """Whether the command of a step that failed may have its outcome yet."""
    return known.phase is Phase.COMMANDED and not known.parked and known.overdue


def _sent_again(saga: Saga[D], state: SagaState[D], name: str) -> bool:
    """Whether a replay sends the step's own command, or its compensation, once more."""
    known = state.steps[name]
    if not known.fault or known.phase is Phase.REVOKING or isinstance(saga.step(name), Wait):
        return False
    return not _below(state, name) and not _is_out(known)


def _skip(saga: Saga[D], state: SagaState[D], step: str, course: Course[D]) -> SagaState[D]:
    known = state.steps[step]
    course.supersede.extend(known.parked)  # nobody may deliver them again
    if known.phase in ORDERED and not known.parked:  # nor start what is out still
        course.revoke[state.command_id(step, Phase.COMMANDED, known.generation)] = step
    phase = Phase.COMPENSATED if known.phase is Phase.COMPENSATING else Phase.SKIPPED
    if saga.step(step).pivot:
        state = replace(state, direction=Direction.FORWARD, cancelled=None)
    return state.with_step(
        step, phase=phase, position=state.consumed, fault=None, parked=(), doubt=False
    )


def _replay(
    saga: Saga[D], state: SagaState[D], first: str | None, course: Course[D], *, no_effect: bool
) -> SagaState[D]:
    """Let go on what failed.

    A parked delivery further down is tried again as it is.  A step's own command is sent again, with a
    new generation and the current data.
    What is sent again means what it meant before, unless that is known to have had no effect.
    """
    course.retry.extend(state.faults)
    state = replace(state, faults={})
    if first is not None:
        state = replace(state, direction=Direction.BACKWARD, rewind_to=first)
    for name, known in state.steps.items():
        if not known.fault or known.phase is Phase.REVOKING:
            continue  # whether it is revoked is about to be known
        if below := _below(state, name):
            course.retry.extend(below)
            state = state.with_step(name, fault=None, parked=())
            continue
        if _is_out(known):
            # Its command is out still, and a second one might do it twice: it is awaited on.
            state = state.with_step(name, fault=None, overdue=False)
            course.await_on(state, name)
            continue
        course.supersede.extend(known.parked)
        if known.phase is Phase.COMMANDED and first is not None:
            state = _given_up(state, name, no_effect=no_effect)
            continue
        if known.phase is Phase.WAITING and first is not None:
            state = state.with_step(name, fault=None)  # it ends, since the saga turns back
            continue
        state = _begun_again(saga, state, name, course, no_effect=no_effect)
    return state


def _given_up(state: SagaState[D], name: str, *, no_effect: bool) -> SagaState[D]:
    """The step's own command failed: done again when the saga is back here.

    It left nothing, unless its handler acts outside the database.
    """
    if no_effect:
        intent = state.steps[name].generation + 1
        state = state.with_step(name, intent=intent, doubt=False, failures=())
    if state.steps[name].doubt:
        return state.with_step(
            name, phase=Phase.IN_DOUBT, position=state.consumed, fault=None, parked=()
        )
    state = state.with_step(name, phase=Phase.REVOKING, fault=None, parked=())
    return state.with_step(name, phase=Phase.REVOKED)


def _begun_again(
    saga: Saga[D], state: SagaState[D], name: str, course: Course[D], *, no_effect: bool
) -> SagaState[D]:
    known = state.steps[name]
    step = saga.step(name)
    if isinstance(step, Wait):
        return course.begin_wait(state.with_step(name, fault=None), step, known.generation + 1)
    assert known.phase in IN_FLIGHT
    make = step.compensation if known.phase is Phase.COMPENSATING else step.action
    assert make is not None
    command = None if make is CAUSAL else make(state.data)
    state = state.with_step(
        name,
        generation=known.generation + 1,
        fault=None,
        parked=(),
        overdue=False,
    )
    if no_effect and known.phase is Phase.COMPENSATING:
        state = state.with_step(name, undo_intent=known.generation + 1)
    elif no_effect:
        state = state.with_step(name, intent=known.generation + 1, doubt=False, failures=())
    if make is CAUSAL:
        course.order_undo(state, name)
        return state
    if command is None:
        return _skip(saga, state, name, course)
    return course.order(state, name, command)
