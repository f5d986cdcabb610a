"""`decide`: the only place a saga moves.

Rules, each a row of the table-driven test:

1.  Pure: no clock, no randomness, no IO.  The same messages give the same state, so a saga's
    consumed messages, folded through `decide`, are its stored state.
2.  A message is compared with what the saga awaits.  Repeated or late: recorded, no effect.
    Belonging to nothing this saga ever sent: unexpected, an operator sees it.
3.  Parallel steps are joined only when the outcome of each is known, whichever way the saga goes.
4.  Rejected by the command's own handler: nothing was done, compensation starts at the step
    before.  Rejected further down the choreography: earlier hops did commit, so the step itself
    is compensated too.  The message's causation tells which.
5.  Compensations run one at a time, in reverse order of completion, parallel branches included.
6.  After the pivot the saga only goes forward: a rejection there leaves it stuck.
7.  A fault undoes nothing.  The saga is stuck, and goes on when the awaited outcome comes after
    all.  A compensation that fails makes it stuck, never compensated.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from saga.definition import Saga, Step
from saga.envelope import Category, Envelope, command_recipient, saga_consumer
from saga.messages import Command, Done, Event, Faulted, Refused, Started, dump_json
from saga.retry import Retry
from saga.state import IN_FLIGHT, STANDING, Direction, Phase, SagaState, Status, start_id

D = TypeVar("D", bound=BaseModel)


class Verdict(StrEnum):
    """What a message meant to the saga."""

    APPLIED = "applied"
    #: Repeated, or late: what it tells is known or no longer awaited.
    STALE = "stale"
    #: Nothing this saga sent can have caused it.
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Decision(Generic[D]):
    """What is to be stored and sent, together or not at all."""

    state: SagaState[D]
    send: tuple[Envelope, ...] = ()
    verdict: Verdict = Verdict.APPLIED


def start_message(saga: Saga[D], saga_id: UUID, data: D) -> Envelope:
    """Return the first message of a saga; it holds the data that the saga begins with."""
    return Envelope(
        id=start_id(saga_id),
        kind=Started.kind,
        category=Category.COMMAND,
        payload=dump_json(data, f"the data of {saga.name}"),
        saga_id=saga_id,
        saga=saga.name,
        root_id=start_id(saga_id),
        recipient=saga_consumer(saga.name),
    )


def decide(saga: Saga[D], state: SagaState[D], message: Envelope) -> Decision[D]:
    """Return what the saga becomes and sends on this message.  Pure.

    Raises whatever a function of the definition raises, and `PayloadError` for an outcome that
    cannot be read or a command that cannot be sent; nothing is half done then.
    """
    state = replace(
        state,
        consumed=state.consumed + 1,
        faults={k: v for k, v in state.faults.items() if k != message.id},
    )
    if message.kind == Started.kind:
        return _proceed(saga, state, message) if state.consumed == 1 else _stale(state)
    if state.status.final:
        return _stale(state)
    if _is_own_fault(saga, message):
        return _proceed(saga, _with_own_fault(state, message), message)
    name = _awaited(state, message.root_id)
    if name is None:
        sent = _was_sent(state, message.root_id)
        return _stale(state) if sent else Decision(state, verdict=Verdict.UNEXPECTED)
    moved = _apply(saga, state, saga.step(name), message)
    if moved is None:
        return Decision(state, verdict=Verdict.UNEXPECTED)
    return _proceed(saga, moved, message)


def fold(saga: Saga[D], saga_id: UUID, messages: Iterable[Envelope]) -> SagaState[D]:
    """Return the state that these messages, in the order they were consumed, lead to.

    The first must be the saga's start.
    """
    consumed = iter(messages)
    first = next(consumed)
    state = SagaState(id=saga_id, data=saga.data.model_validate_json(first.payload))
    state = decide(saga, state, first).state
    for message in consumed:
        state = decide(saga, state, message).state
    return state


def _stale(state: SagaState[D]) -> Decision[D]:
    return Decision(state, verdict=Verdict.STALE)


def _awaited(state: SagaState[D], root: UUID | None) -> str | None:
    """The step whose outstanding command is the root of this message."""
    for name, step in state.steps.items():
        if step.phase in IN_FLIGHT and state.command_id(name, step.phase, step.generation) == root:
            return name
    return None


def _was_sent(state: SagaState[D], root: UUID | None) -> bool:
    """Whether the root is any command that this saga may have sent before."""
    return any(
        state.command_id(name, phase, generation) == root
        for name, step in state.steps.items()
        for phase in IN_FLIGHT
        for generation in range(1, step.generation + 1)
    )


def _apply(
    saga: Saga[D], state: SagaState[D], step: Step[D], message: Envelope
) -> SagaState[D] | None:
    """Move the step that awaits this message; None when it is no outcome of that step."""
    if message.kind == Faulted.kind:
        return state.with_step(step.name, fault=_fault_text(message))
    if state.steps[step.name].phase is Phase.COMPENSATING:
        return _apply_to_compensation(state, step, message)
    if message.kind == step.outcome.kind:
        return _succeed(state, step, message)
    if message.kind == Refused.kind:
        return _reject(saga, state, step, message, Refused.from_json(message.payload).reason)
    for event in step.rejections:
        if message.kind == event.kind:
            return _reject(saga, state, step, message, _why(event.from_json(message.payload)))
    return None


def _apply_to_compensation(
    state: SagaState[D], step: Step[D], message: Envelope
) -> SagaState[D] | None:
    if message.kind == Done.kind:
        return state.with_step(step.name, phase=Phase.COMPENSATED, fault=None)
    if message.kind == Refused.kind:
        reason = Refused.from_json(message.payload).reason
        return state.with_step(step.name, fault=f"its compensation was rejected: {reason}")
    return None


def _succeed(state: SagaState[D], step: Step[D], message: Envelope) -> SagaState[D]:
    outcome = step.outcome.from_json(message.payload)
    if step.on_success is not None:
        state = replace(state, data=step.on_success(state.data, outcome))
    return state.with_step(step.name, phase=Phase.DONE, position=state.consumed, fault=None)


def _why(event: Event) -> str:
    """An event that says no, in words: its kind and, if it has such a field, its reason."""
    reason = getattr(event, "reason", None)
    return f"{event.kind}: {reason}" if reason else event.kind


def _reject(
    saga: Saga[D], state: SagaState[D], step: Step[D], message: Envelope, reason: str
) -> SagaState[D]:
    if _pivot_passed(saga, state):
        return state.with_step(step.name, fault=f"rejected after the pivot: {reason}")
    own = message.causation_id == message.root_id
    moved = state.with_step(
        step.name,
        phase=Phase.REJECTED if own else Phase.REJECTED_LATE,
        position=state.consumed,
        rejection=reason,
        fault=None,
    )
    return replace(moved, direction=Direction.BACKWARD)


def _pivot_passed(saga: Saga[D], state: SagaState[D]) -> bool:
    pivot = state.steps.get(saga.pivot) if saga.pivot else None
    return pivot is not None and pivot.phase in (Phase.DONE, Phase.SKIPPED)


def _is_own_fault(saga: Saga[D], message: Envelope) -> bool:
    return (
        message.kind == Faulted.kind
        and Faulted.from_json(message.payload).consumer == saga_consumer(saga.name)
        and message.causation_id is not None
    )


def _with_own_fault(state: SagaState[D], message: Envelope) -> SagaState[D]:
    assert message.causation_id is not None
    return replace(state, faults={**state.faults, message.causation_id: _fault_text(message)})


def _fault_text(message: Envelope) -> str:
    fault = Faulted.from_json(message.payload)
    return f"{fault.message_kind} is parked at {fault.consumer}: {fault.error}"


def _proceed(saga: Saga[D], state: SagaState[D], cause: Envelope) -> Decision[D]:
    """Send what the state calls for; the same state always calls for the same."""
    if state.faults or any(step.fault for step in state.steps.values()):
        return Decision(state.with_status(Status.STUCK))
    if state.direction is Direction.FORWARD:
        return _forward(saga, state, cause)
    return _backward(saga, state, cause)


def _forward(saga: Saga[D], state: SagaState[D], cause: Envelope) -> Decision[D]:
    for group in saga.groups:
        sent = []
        for step in group:
            if step.name in state.steps:
                continue
            command = step.action(state.data)
            if command is None:
                state = state.with_step(step.name, phase=Phase.SKIPPED)
                continue
            state = state.with_step(step.name, phase=Phase.COMMANDED)
            sent.append(_order(saga, state, step.name, command, step.awaits, step.retry, cause))
        if any(state.steps[step.name].phase in IN_FLIGHT for step in group):
            return Decision(state.with_status(Status.RUNNING), tuple(sent))
    return Decision(state.with_status(Status.COMPLETED))


def _backward(saga: Saga[D], state: SagaState[D], cause: Envelope) -> Decision[D]:
    if any(step.phase in IN_FLIGHT for step in state.steps.values()):
        return Decision(state.with_status(Status.COMPENSATING))
    standing = [(s.position or 0, name) for name, s in state.steps.items() if s.phase in STANDING]
    for _, name in sorted(standing, reverse=True):
        compensation = saga.step(name).compensation
        if compensation is None:
            continue  # declared as needing none
        command = compensation(state.data)
        if command is None:
            state = state.with_step(name, phase=Phase.COMPENSATED)
            continue
        state = state.with_step(name, phase=Phase.COMPENSATING)
        order = _order(saga, state, name, command, (Done.kind,), None, cause)
        return Decision(state.with_status(Status.COMPENSATING), (order,))
    return Decision(state.with_status(Status.COMPENSATED))


def _order(
    saga: Saga[D],
    state: SagaState[D],
    name: str,
    command: Command,
    awaits: tuple[str, ...],
    retry: Retry | None,
    cause: Envelope,
) -> Envelope:
    step = state.steps[name]
    id = state.command_id(name, step.phase, step.generation)
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
    )
