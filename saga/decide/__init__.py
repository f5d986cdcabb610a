"""`decide`: the only place a saga moves.

Rules, each a row of the table-driven test:

1.  Pure: no clock, no randomness, no IO.  The same messages give the same state, so a saga's
    consumed messages, folded through `decide`, are its stored state.
2.  A message is compared with what the saga awaits.  Repeated or late: recorded, no effect.
    Belonging to nothing this saga ever sent: unexpected, an operator sees it.
3.  Parallel steps are joined only when the outcome of each is known, whichever way the saga
    goes.  When it turns back, commands that were not started are revoked; the others are awaited,
    but never started once more: one that fails is as good as revoked.
4.  Rejected by the command's own handler: nothing was done, compensation starts at the step
    before.  Rejected further down the choreography: earlier hops did commit, so the step itself
    is compensated too.  The message's causation tells which.
5.  Compensations run one at a time, in reverse order of completion, parallel branches included.
6.  After the pivot the saga only goes forward: a rejection there leaves it stuck.
7.  A fault undoes nothing, unless the step says so.  The saga is stuck, and goes on when the
    awaited outcome comes after all.  A compensation that fails makes it stuck, never compensated.
    A command that fails for good while the saga turns back, or failed before, needs nobody: it left
    nothing, or is in doubt if it acts outside or failed further down.  Only of a pivot that may
    have happened a person must say what became of it.
8.  A deadline that passes makes the outcome unknown.  Revoked unstarted: it did not happen.
    Otherwise the step is in doubt and compensated too; a success that comes late is compensated
    when it comes, and so is what a late rejection from further down left, or a late failure may
    have left, once each; any other late rejection is only recorded.  Final sagas open again for
    these only.  The deadline of the saga turns a stuck one back too, unless it is past its pivot
    or stuck on its way back.
9.  A cancelled saga turns back at once, stuck or not, unless it is past its pivot: what nobody
    started is revoked, what is being handled is awaited.  A pivot in flight decides: once it was
    begun it is tried until its outcome is known, since nobody could undo it; its success
    comes too late to turn back, however late it is, and the saga goes on forward from there.
10. An outside message that comes before its step waits for it is kept.  A wait takes the first one
    that came of those it takes, whichever kind they are.
11. A replay lets go on what failed and no more: finished results stay.  No command is ever sent
    under an id of before, but it means what it meant before: it keeps its intent until its effect
    is known to be undone, or the operator says that there was none.  A compensation keeps its own,
    and says which intent it undoes.  What is to be done again is not left in doubt by a deadline:
    the saga is stuck until its outcome is known, or a person says what became of it.
12. A causal compensation is one order to undo all that the step's commands caused; it is over when
    everything below it is done.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from saga.decide import outcomes
from saga.decide.deadlines import timed_out
from saga.decide.decision import Decision, Verdict, stale
from saga.decide.next_steps import Course
from saga.decide.operator_actions import ACTS, act, refusal_of
from saga.definition import Saga
from saga.envelope import Category, Envelope, saga_consumer
from saga.json_text import dump_json, read_json
from saga.messages import Faulted, Revoked, Started, TimedOut
from saga.state import IN_FLIGHT, ORDERED, Direction, Early, Phase, SagaState, changed, start_id
from saga.steps import Wait

__all__ = ["Decision", "Verdict", "decide", "fold", "start_message"]

D = TypeVar("D", bound=BaseModel)


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

    Raises whatever a function of the definition raises, `TypeError` for one that returns what it
    must not, and `PayloadError` for an outcome that cannot be read or a command that cannot be
    sent; nothing is half done then.
    """
    before = changed(
        state,
        consumed=state.consumed + 1,
        faults={k: v for k, v in state.faults.items() if k != message.id},
    )
    course = Course(saga, message)
    moved = _move(saga, before, message, course)
    if isinstance(moved, Decision):
        if moved.verdict in (Verdict.UNEXPECTED, Verdict.REFUSED):
            return replace(moved, state=state)  # as it was: such a message is not consumed
        if message.id not in state.faults:
            return moved
        # Old news, but the saga waited for it to be consumed: then it goes on.
        moved = moved.state
    if moved.direction is Direction.BACKWARD and before.direction is Direction.FORWARD:
        moved = course.give_up(moved, overdue=False)
    after = course.proceed(moved)
    course.clear_timers(before, after)
    return Decision(
        after,
        tuple(course.send),
        revoke=tuple(course.revoke.items()),
        unbegun=tuple(course.unbegun),
        unwind=tuple(course.unwind.items()),
        clear=tuple(course.clear),
        retry=tuple(course.retry),
        supersede=tuple(course.supersede),
    )


def fold(saga: Saga[D], saga_id: UUID, messages: Iterable[Envelope]) -> SagaState[D]:
    """Return the state that these messages, in the order they were consumed, lead to.

    Raises ValueError unless the first is the saga's start.
    """
    consumed = iter(messages)
    first = next(consumed, None)
    if first is None or first.kind != Started.kind:
        raise ValueError(f"what a saga consumed begins with {Started.kind}")
    state = SagaState(id=saga_id, data=read_json(saga.data, first.payload))
    state = decide(saga, state, first).state
    for message in consumed:
        state = decide(saga, state, message).state
    return state


def _move(
    saga: Saga[D], state: SagaState[D], message: Envelope, course: Course[D]
) -> SagaState[D] | Decision[D]:
    """Take in the message; a decision is returned where nothing follows from it."""
    if message.kind == Started.kind:
        if state.consumed > 1:
            return stale(state)
        return _started(saga, changed(state, depth=message.depth), course)
    if message.kind in ACTS:
        why = refusal_of(saga, state, ACTS[message.kind].from_json(message.payload))
        if why is not None:
            return Decision(state, verdict=Verdict.REFUSED, why=why)
        return act(saga, state, message, course)
    if message.kind == TimedOut.kind:
        return timed_out(saga, state, message, course)
    if message.root_id == start_id(state.id) and message.kind != Faulted.kind:
        return _signalled(saga, state, message)
    if _is_own_fault(saga, message):
        return stale(state) if state.status.final else _with_own_fault(state, message)
    return _outcome(saga, state, message, course)


def _started(saga: Saga[D], state: SagaState[D], course: Course[D]) -> SagaState[D]:
    if saga.deadline is not None:
        course.set_timer(state, None, start_id(state.id), saga.deadline)
    return state


def _outcome(
    saga: Saga[D], state: SagaState[D], message: Envelope, course: Course[D]
) -> SagaState[D] | Decision[D]:
    name = _awaited(state, message.root_id)
    if name is not None:
        moved = outcomes.apply(saga, state, saga.step(name), message)
        if moved is None and message.kind == Revoked.kind:
            return stale(state)  # it was asked twice, and has answered before
        if moved is None:
            return Decision(state, verdict=Verdict.UNEXPECTED)
        given_up = moved.steps[name].phase not in IN_FLIGHT
        if message.kind == Faulted.kind and given_up and message.causation_id is not None:
            course.supersede.append(message.causation_id)  # nobody may deliver it again
        failed = message.kind == Faulted.kind and moved.steps[name].phase in ORDERED
        if failed and moved.direction is Direction.BACKWARD:
            return course.give_up_failed(moved, name)
        return moved
    name, phase = _ordered_before(state, message.root_id)
    if name is None:
        return Decision(state, verdict=Verdict.UNEXPECTED)
    known = state.steps.get(name)  # None: to be done again, and not begun yet
    if known is None or not known.doubt or phase is Phase.COMPENSATING or known.phase in ORDERED:
        # Where its command is out again, the doubt about the earlier one stays until that is known.
        return stale(state)
    return outcomes.learn_late(saga, state, saga.step(name), message) or stale(state)


def _awaited(state: SagaState[D], root: UUID | None) -> str | None:
    """The step whose outstanding command is the root of this message."""
    for name, step in state.steps.items():
        if step.phase not in IN_FLIGHT or step.phase is Phase.WAITING:
            continue
        ordered = Phase.COMMANDED if step.phase in ORDERED else step.phase
        if state.command_id(name, ordered, step.generation) == root:
            return name
    return None


def _ordered_before(state: SagaState[D], root: UUID | None) -> tuple[str | None, Phase | None]:
    """The step one of whose earlier commands is the root of this message, and which one."""
    last = {**state.generations, **{n: s.generation for n, s in state.steps.items()}}
    for name, generations in last.items():
        for phase in (Phase.COMMANDED, Phase.COMPENSATING):
            for generation in range(1, generations + 1):
                if state.command_id(name, phase, generation) == root:
                    return name, phase
    return None, None


def _signalled(saga: Saga[D], state: SagaState[D], message: Envelope) -> SagaState[D] | Decision[D]:
    """An outside message: for the wait that takes it, now or later."""
    takers = [step for step in saga if isinstance(step, Wait) and message.kind in step.awaits]
    if not takers:
        return Decision(state, verdict=Verdict.UNEXPECTED)
    for step in takers:
        known = state.steps.get(step.name)
        if known is not None and known.phase is Phase.WAITING:
            return outcomes.apply(saga, state, step, message) or stale(state)
    if state.status.final or all(step.name in state.steps for step in takers):
        return stale(state)
    if any(early.id == message.id for early in state.early):
        return stale(state)
    kept = Early(message.id, message.kind, message.payload)
    return replace(state, early=(*state.early, kept))


def _is_own_fault(saga: Saga[D], message: Envelope) -> bool:
    return (
        message.kind == Faulted.kind
        and Faulted.from_json(message.payload).consumer == saga_consumer(saga.name)
        and message.causation_id is not None
    )


def _with_own_fault(state: SagaState[D], message: Envelope) -> SagaState[D]:
    assert message.causation_id is not None
    text = outcomes.fault_text(Faulted.from_json(message.payload))
    return replace(state, faults={**state.faults, message.causation_id: text})
