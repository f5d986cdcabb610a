"""Story: a saga, what it consumed so far, and what that made it send."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel

from saga import messages
from saga.decide import Decision, Verdict, decide, fold
from saga.definition import Saga
from saga.envelope import Category, Envelope
from saga.json_text import dump_json, read_json
from saga.messages import Done, Event, Faulted, Message, Refused, Revoked, Settled
from saga.state import IN_FLIGHT, ORDERED, Direction, Phase, SagaState, Status
from saga.testing.expectation import Expected, differences, fail
from saga.testing.undoing import undoing

D = TypeVar("D", bound=BaseModel)

#: pytest then shows the line of the story that failed, and not this file.
__tracebackhide__ = True


@dataclass(frozen=True)
class Story(Generic[D]):
    """One saga, what it consumed so far, and what it sent; made with `given`.

    A story never changes: each word returns a new one, so that two may share their beginning.

    Attributes:
        saga: The definition.
        state: The saga as it is now.
        consumed: All messages that it consumed, in order.
        sent: The commands that the last of them made it send.
        orders: All commands so far and the deadlines that still run, by their ids.
        decision: The whole of what the last message led to.
    """

    saga: Saga[D]
    state: SagaState[D]
    consumed: tuple[Envelope, ...] = ()
    sent: tuple[Envelope, ...] = ()
    orders: Mapping[UUID, Envelope] = field(default_factory=dict, repr=False)
    decision: Decision[D] | None = field(default=None, repr=False)

    @property
    def data(self) -> D:
        """The saga's data as it is now."""
        return self.state.data

    def when(
        self, event: Event, step: str | None = None, *, downstream: bool = False
    ) -> "Story[D]":
        """Deliver an outcome event to the step that awaits it; name the step if several do.

        `downstream`: a rejection that not the command's own handler published but a later one.
        """
        orders = self._in_flight() if step is None else {step: self._order(step)}
        awaiting = [name for name, order in orders.items() if event.kind in order.awaits]
        if not awaiting:
            listed = [f"{name} awaits {' or '.join(o.awaits)}" for name, o in orders.items()]
            fail(f"no step awaits {event.kind}: {'; '.join(listed) or self._where()}")
        if len(awaiting) > 1:
            fail(f"{' and '.join(awaiting)} await {event.kind}; say which: step={awaiting[0]!r}")
        return self._tell(awaiting[0], event, downstream)

    def done(self, step: str) -> "Story[D]":
        """The handler of the step's command, or of its compensation, is done."""
        awaits = self._order(step).awaits
        if Done.kind not in awaits:
            fail(f"step {step!r} is not ended by a reply but by {awaits[0]}: use when()")
        return self._tell(step, Done())

    def settled(self, step: str) -> "Story[D]":
        """Everything below the step's command is done.

        Where the step is being compensated causally, all of it is undone.
        """
        if Settled.kind not in (awaits := self._order(step).awaits):
            fail(f"step {step!r} does not end when all is settled but by {awaits[0]}")
        return self._tell(step, Settled())

    def rejected(self, step: str, reason: str, *, downstream: bool = False) -> "Story[D]":
        """A handler raised `Rejected`: the command's own one, unless `downstream`."""
        return self._tell(step, Refused(reason=reason), downstream)

    def faulted(
        self, step: str, error: str, *, downstream: bool = False, external: bool = False
    ) -> "Story[D]":
        """The delivery of the step's command, or of its compensation, is parked.

        `downstream`: a later delivery of its choreography is.  `external`: the handler acts
        outside the database, so that it may have had an effect.
        """
        order = self._order(step)
        where = {"consumer": order.recipient or "", "message_kind": order.kind}
        return self._tell(step, Faulted(**where, error=error, external=external), downstream)

    def timed_out(self, step: str | None = None) -> "Story[D]":
        """The deadline of the step passed, or with no step that of the saga."""
        known = self.state.steps.get(step) if step else None
        generation = known.generation if known else 1
        timer = self.orders.get(self.state.timer_id(step, generation))
        if timer is None and step in self._in_flight():  # after a replay it may be awaited on
            root = self.state.command_id(step, Phase.COMMANDED, generation)
            again = [m for m in self.orders.values() if m.root_id == root and m.delay]
            timer = again[-1] if again else None
        if timer is None:
            fail(f"no deadline of {step or 'the saga'} is running; {self._where()}")
        return self._hear(timer)

    def revoked(
        self, step: str, *, started: bool = False, order: Envelope | None = None
    ) -> "Story[D]":
        """The step's command was revoked: it is not started any more.

        `started`: its handler acts outside the database and was started, so that it may have had
        its effect.  `order`: an earlier command, if it is not the one that is out.
        """
        return self._answered(step, revoked=True, started=started, order=order)

    def not_revoked(self, step: str, *, order: Envelope | None = None) -> "Story[D]":
        """The step's command could not be revoked: it is being handled."""
        return self._answered(step, revoked=False, order=order)

    def signal(self, event: Event) -> "Story[D]":
        """An outside message comes, for the wait that takes it now or later."""
        after = self._from_outside(event, Category.EVENT)
        if after.decision and after.decision.verdict is Verdict.UNEXPECTED:
            fail(f"no step of {self.saga.name} waits for {event.kind}")
        return after

    def cancelled(self, reason: str) -> "Story[D]":
        """A person, or the host, cancels the saga."""
        return self._act(messages.Cancelled(reason=reason))

    def replayed(
        self,
        reason: str = "repaired",
        from_step: str | None = None,
        *,
        no_effect: bool = False,
        **data: Any,
    ) -> "Story[D]":
        """A person lets the stuck saga go on, perhaps from an earlier step, with other data.

        `no_effect`: the person says that the calls which failed had no effect elsewhere.
        """
        return self._act(
            messages.Replayed(reason=reason, from_step=from_step, data=data, no_effect=no_effect)
        )

    def skipped(self, step: str, reason: str) -> "Story[D]":
        """A person declares the step that failed settled by other means."""
        return self._act(messages.Skipped(step=step, reason=reason))

    def expect_refused(self, act: Message, why_contains: str = "") -> "Story[D]":
        """This act (`Cancelled`, `Replayed`, `Skipped`) cannot be done now, for this reason."""
        decision = self._from_outside(act, Category.ACT).decision
        if decision is None or decision.verdict is not Verdict.REFUSED:
            fail(f"{act.kind} is not refused; {self._where()}")
        if why_contains not in (decision.why or ""):
            fail(f"expected a refusal with {why_contains!r}, but it is: {decision.why}")
        return self

    def again(self) -> "Story[D]":
        """Deliver the last message once more; fails if that has any effect."""
        after = self._hear(self.consumed[-1])
        if after.sent or replace(after.state, consumed=self.state.consumed) != self.state:
            fail(f"a second {self.consumed[-1].kind} had an effect: now {after._where()}")
        return after

    def expect(self, *commands: Expected) -> "Story[D]":
        """The last message sent just these, in any order; a class is any command of it."""
        if lines := differences(commands, self.sent):
            fail("\n  ".join([f"after {self.consumed[-1].kind}", *lines, self._where()]))
        return self

    def expect_undoing(self, step: str) -> "Story[D]":
        """The last message made the saga have everything undone that the step caused."""
        known = self.state.steps.get(step)
        id = self.state.command_id(step, Phase.COMPENSATING, known.generation if known else 1)
        if self.decision is None or id not in dict(self.decision.unwind):
            fail(f"what step {step!r} caused is not being undone; {self._where()}")
        return self

    def expect_nothing(self) -> "Story[D]":
        """The last message made the saga send nothing."""
        return self.expect()

    def expect_completed(self) -> "Story[D]":
        """All is done."""
        return self._expect_status(Status.COMPLETED)

    def expect_compensated(self) -> "Story[D]":
        """All is undone."""
        return self._expect_status(Status.COMPENSATED)

    def expect_stuck(self, reason_contains: str = "") -> "Story[D]":
        """A person is needed, for a reason that contains this text."""
        if reason_contains not in (self.state.reason or ""):
            fail(f"expected a reason with {reason_contains!r}, but {self._where()}")
        return self._expect_status(Status.STUCK)

    def _expect_status(self, status: Status) -> "Story[D]":
        if self.state.status is not status:
            fail(f"expected {status}, but {self._where()}")
        if (folded := fold(self.saga, self.state.id, self.consumed)) != self.state:
            fail(
                f"the same messages lead to another state of {self.saga.name}: one of its "
                "functions is not pure, or its data does not come back equal from JSON\n"
                f"  in the story: {self.state}\n  folded again: {folded}"
            )
        return self

    def _in_flight(self) -> dict[str, Envelope]:
        """The outstanding commands, by the names of their steps."""
        flying = {}
        for name, step in self.state.steps.items():
            phase = Phase.COMMANDED if step.phase in ORDERED else step.phase
            if phase in (Phase.COMMANDED, Phase.COMPENSATING):
                flying[name] = self.orders[self.state.command_id(name, phase, step.generation)]
        return flying

    def _order(self, step: str) -> Envelope:
        if step not in (names := [s.name for s in self.saga]):
            fail(f"{self.saga.name} has no step {step!r}; it has {', '.join(names)}")
        if step in self.state.steps and self.state.steps[step].phase is Phase.WAITING:
            fail(f"step {step!r} waits for an outside message: use signal()")
        if (order := self._in_flight().get(step)) is None:
            fail(f"step {step!r} awaits nothing; {self._where()}")
        return order

    def _tell(self, step: str, message: Message, downstream: bool = False) -> "Story[D]":
        order = self._order(step)
        envelope = self._reply(order, message)
        cause = uuid5(order.id, "downstream") if downstream else order.id
        return self._hear(replace(envelope, causation_id=cause))

    def _reply(self, order: Envelope, message: Message) -> Envelope:
        is_event = isinstance(message, Event)
        return order.caused(
            message,
            id=uuid5(self.state.id, f"message {len(self.consumed)}"),
            category=Category.EVENT if is_event else Category.REPLY,
            recipient=None if is_event else order.sender,
            sender=order.recipient,
        )

    def _answered(
        self, step: str, *, revoked: bool, started: bool = False, order: Envelope | None = None
    ) -> "Story[D]":
        answer = Revoked(step=step, revoked=revoked, started=started)
        if order is not None:
            return self._hear(self._reply(order, answer))
        phase = self.state.steps[step].phase if self._order(step) else None
        under_way = phase is Phase.COMMANDED and self.state.direction is Direction.BACKWARD
        if phase is not Phase.REVOKING and not (under_way and revoked):
            fail(f"the command of step {step!r} is not being revoked; {self._where()}")
        return self._tell(step, answer)

    def _act(self, act: Message) -> "Story[D]":
        after = self._from_outside(act, Category.ACT)
        if after.decision and after.decision.verdict is Verdict.REFUSED:
            fail(f"{act.kind} is refused: {after.decision.why}")
        return after

    def _from_outside(self, message: Message, category: Category) -> "Story[D]":
        start, id = self.consumed[0], uuid5(self.state.id, f"message {len(self.consumed)}")
        sent = start.caused(
            message, id=id, category=category, recipient=start.recipient, sender=None
        )
        return self._hear(sent)

    def _hear(self, message: Envelope) -> "Story[D]":
        """Consume a message as a worker does: the data is stored, and read back next time."""
        decision = decide(self.saga, self.state, message)
        text = dump_json(decision.state.data, f"{self.saga.name}: the data after {message.kind}")
        state = replace(decision.state, data=read_json(self.saga.data, text))
        over = {*decision.clear, message.id}  # deadlines that were cleared, or have passed
        undone = (undoing(self.saga, state, id) for id, _ in decision.unwind)
        known = {**self.orders, **{order.id: order for order in (*decision.send, *undone)}}
        orders = {id: order for id, order in known.items() if id not in over}
        sent = tuple(m for m in decision.send if m.category is Category.COMMAND)
        return Story(self.saga, state, (*self.consumed, message), sent, orders, decision)

    def _where(self) -> str:
        because = f", because {self.state.reason}" if self.state.reason else ""
        names = ", ".join(n for n, s in self.state.steps.items() if s.phase in IN_FLIGHT)
        flying = f"; in flight: {names}" if names else ""
        return f"{self.saga.name} is {self.state.status}{because}{flying}"
