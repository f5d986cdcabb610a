"""Outcomes: what a message does to the step that awaits it.  Part of `decide`; pure."""

from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from saga.definition import Saga
from saga.envelope import Envelope
from saga.json_text import dump_json
from saga.messages import Done, Event, Faulted, Refused, Revoked, Settled
from saga.state import ORDERED, STANDING, Direction, Phase, SagaState
from saga.steps import Step, Wait
from saga.validation.functions import check_returned

D = TypeVar("D", bound=BaseModel)


def apply(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D] | None:
    """Move the step that awaits this message; None when it is no outcome of that step."""
    phase = state.steps[step.name].phase
    if message.kind == Faulted.kind:
        return _fault(saga, state, step, message)
    if phase is Phase.COMPENSATING:
        return _of_compensation(state, step, message)
    if message.kind == Revoked.kind:
        return _revoked(state, step, message)
    if message.kind == step.outcome.kind:
        return succeed(saga, state, step, message)
    reason = refusal(step, message)
    return None if reason is None else _reject(saga, state, step, message, reason)


def refusal(step: Step[D] | Wait[D], message: Envelope) -> str | None:
    """Return why this message says no to the step, or None if it does not."""
    if message.kind == Refused.kind:
        return Refused.from_json(message.payload).reason
    for event in step.rejections:
        if message.kind == event.kind:
            return _in_words(event.from_json(message.payload))
    return None


def succeed(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D]:
    """The outcome came: take over what it tells."""
    state = _taken_over(saga, state, step, message)
    if step.pivot:
        # Past the point of no return, though the saga may have begun to give it up.
        state = replace(state, direction=Direction.FORWARD, cancelled=None)
    return state.with_step(
        step.name,
        phase=Phase.DONE,
        position=state.consumed,
        rejection=None if step.pivot else state.steps[step.name].rejection,
        fault=None,
        parked=(),
        failures=(),
        doubt=False,
    )


def _taken_over(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D]:
    """Put into the data what an outcome tells."""
    outcome = step.outcome.from_json(message.payload)
    if step.on_success is not None:
        data = step.on_success(state.data, outcome)
        if not isinstance(data, saga.data):
            check_returned(data, f"{saga.name}: on_success of step {step.name!r}")
            raise TypeError(
                f"{saga.name}: on_success of step {step.name!r} must return a "
                f"{saga.data.__name__}, not {type(data).__name__}"
            )
        dump_json(data, f"{saga.name}: the data after {message.kind}")  # raises if it cannot be
        state = replace(state, data=data)
    return state


def learn_late(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D] | None:
    """Take note of the outcome of a step that was given up; None if it tells nothing new.

    A late success is compensated, once more if need be, and so is a late rejection from further
    down, of which earlier hops had committed; one of the command's own handler is only recorded.
    """
    known = state.steps[step.name]
    if refusal(step, message) is not None:
        own = message.causation_id == message.root_id
        if own and known.phase is Phase.IN_DOUBT and not known.failures:
            return state.with_step(
                step.name, phase=Phase.REJECTED, doubt=False, fault=None, parked=()
            )
        if own or known.phase in STANDING:
            return state.with_step(step.name, doubt=False)
        return _compensate_again(saga, state, step)  # earlier hops committed, perhaps after it
    if message.kind in (Faulted.kind, Revoked.kind):
        failure = _failure(message)
        if failure is None or failure in known.failures or step.compensation is None:
            return None
        # What it left may have come after the compensation, if that was ordered by now.
        again = known.again or known.phase not in STANDING
        return state.with_step(step.name, failures=(*known.failures, failure), again=again)
    if message.kind != step.outcome.kind:
        return None
    if known.phase is Phase.IN_DOUBT:
        return succeed(saga, state, step, message)
    state = _taken_over(saga, state, step, message)  # its compensation needs what it tells
    if known.phase is Phase.COMPENSATING:
        return state.with_step(step.name, doubt=False, again=True)
    return _compensate_again(saga, state, step)


def _failure(message: Envelope) -> UUID | None:
    """Return what tells a failure that may have left something from others; None if it left nothing.

    A delivery further down that is parked twice left the same both times: the hops before it.  A
    call to the outside may have had its effect in each of its runs.
    """
    if message.kind == Revoked.kind:
        told = Revoked.from_json(message.payload)
        return message.id if told.revoked and told.started else None
    if Faulted.from_json(message.payload).external:
        return message.id
    return message.causation_id if message.causation_id != message.root_id else None


def _with_failure(state: SagaState[D], name: str, message: Envelope) -> SagaState[D]:
    """Take a failure of the step's command into account, if it may have left something."""
    known, failure = state.steps[name], _failure(message)
    if failure is None or failure in known.failures or known.phase not in ORDERED:
        return state
    return state.with_step(name, failures=(*known.failures, failure))


def _compensate_again(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D]
) -> SagaState[D] | None:
    """The compensation is over and may have met nothing: it is ordered once more."""
    if saga.step(step.name).compensation is None:
        return state.with_step(step.name, doubt=False)
    return state.with_step(step.name, doubt=False, again=True)


def _of_compensation(
    state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D] | None:
    if message.kind in (Done.kind, Settled.kind):
        return state.with_step(step.name, phase=Phase.COMPENSATED, fault=None, parked=())
    if message.kind == Refused.kind:
        reason = Refused.from_json(message.payload).reason
        return state.with_step(
            step.name, fault=f"its compensation was rejected: {reason}", parked=()
        )
    return None


def _reject(
    saga: Saga[D],
    state: SagaState[D],
    step: Step[D] | Wait[D],
    message: Envelope,
    reason: str,
) -> SagaState[D]:
    if pivot_passed(saga, state):
        return state.with_step(
            step.name,
            fault=f"rejected after the pivot: {reason}",
            parked=(),
            overdue=False,
        )
    own = message.causation_id == message.root_id or isinstance(step, Wait)
    own = own and not state.steps[step.name].doubt  # an earlier generation may have had its effect
    if step.pivot and not own:
        return state.with_step(
            step.name,
            fault=f"rejected after a part of it was done, which a pivot cannot undo: {reason}",
            parked=(),
            overdue=False,
        )
    moved = state.with_step(
        step.name,
        phase=Phase.REJECTED if own else Phase.REJECTED_LATE,
        position=state.consumed,
        rejection=reason,
        fault=None,
        parked=(),
    )
    return replace(moved, direction=Direction.BACKWARD)


def _fault(
    saga: Saga[D], state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D]:
    fault = Faulted.from_json(message.payload)
    text = fault_text(fault)
    state = _with_failure(state, step.name, message)
    known = state.steps[step.name]
    forgiving = isinstance(step, Step) and step.on_fault == "compensate"
    if not forgiving or known.phase is Phase.COMPENSATING or pivot_passed(saga, state):
        acted = fault.external and known.phase is not Phase.COMPENSATING
        parked = dict.fromkeys(known.parked)
        if message.causation_id is not None:
            parked[message.causation_id] = None
        return state.with_step(
            step.name, fault=text, parked=tuple(parked), doubt=known.doubt or acted
        )
    own = message.causation_id == message.root_id
    nothing_done = own and not fault.external and not known.doubt
    if fault.external:
        phase = Phase.IN_DOUBT
    else:
        phase = Phase.REJECTED if nothing_done else Phase.REJECTED_LATE
    moved = state.with_step(
        step.name,
        phase=phase,
        position=state.consumed,
        rejection=text,
        doubt=not nothing_done,
        fault=None,
        parked=(),
    )
    return replace(moved, direction=Direction.BACKWARD)


def _revoked(
    state: SagaState[D], step: Step[D] | Wait[D], message: Envelope
) -> SagaState[D] | None:
    known = state.steps[step.name]
    told = Revoked.from_json(message.payload)
    if known.phase not in ORDERED or not (told.revoked or known.phase is Phase.REVOKING):
        return None
    state = _with_failure(state, step.name, message)
    # This generation or an earlier one.
    acted = told.started or known.doubt
    if told.revoked and acted and step.pivot:
        return state.with_step(
            step.name,
            phase=Phase.COMMANDED,
            fault="it may have had its effect, its outcome is not known, and a pivot cannot be undone",
            overdue=False,  # nothing is out that could be awaited
            parked=(),
            doubt=True,
        )
    if told.revoked:
        return state.with_step(
            step.name,
            phase=Phase.IN_DOUBT if acted else Phase.REVOKED,
            position=state.consumed,
            fault=None,
            parked=(),
            doubt=acted,
        )
    if not known.overdue:
        return state.with_step(step.name, phase=Phase.COMMANDED)
    if state.rewind_to is not None:
        return state.with_step(
            step.name,
            phase=Phase.COMMANDED,
            fault="its time is over, its outcome is not known, and it is to be done again after that",
        )
    if step.pivot:
        return state.with_step(
            step.name,
            phase=Phase.COMMANDED,
            fault="its time is over, its outcome is not known, and a pivot cannot be undone",
        )
    return state.with_step(
        step.name,
        phase=Phase.IN_DOUBT,
        position=state.consumed,
        doubt=True,
        fault=None,
        parked=(),
    )


def pivot_passed(saga: Saga[D], state: SagaState[D]) -> bool:
    """Whether the saga only goes forward by now."""
    pivot = state.steps.get(saga.pivot) if saga.pivot else None
    return pivot is not None and pivot.phase in (Phase.DONE, Phase.SKIPPED)


def fault_text(fault: Faulted) -> str:
    """Say in words what is parked where, and why."""
    return f"{fault.message_kind} is parked at {fault.consumer}: {fault.error}"


def _in_words(event: Event) -> str:
    """An event that says no, in words: its kind and, if it has such a field, its reason."""
    reason = getattr(event, "reason", None)
    return f"{event.kind}: {reason}" if reason else event.kind
