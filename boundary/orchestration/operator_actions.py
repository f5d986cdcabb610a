"""Operator actions: what operators, and hosts, do to one saga or one parked delivery.

Each act locks what it changes, is recorded in the audit by the same transaction, and never
commits it: that is the caller's, so a host may act together with its own writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from boundary.orchestration.audit import Audit, check_words
from boundary.orchestration.delivery_changes import Consequences
from boundary.orchestration.parked_deliveries import ParkedDeliveries
from boundary.orchestration.saga_rows import StoredSaga, data_to_json, saving
from internals.database.errors import describe
from internals.database.unit_of_work import UnitOfWork
from internals.ids import uuid7
from internals.store.outbox import Outbox
from internals.store.sql import Statements
from saga.decide import Decision, Verdict, decide
from saga.definition import Saga
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import ActRefused, SagaError, UnknownSaga
from saga.messages import Cancelled, Event, Message, Replayed, Skipped
from saga.state import SagaState, Status, start_id
from saga.steps import Wait

#: Sagas by name and version.
Definitions = Mapping[str, Mapping[int, Saga[Any]]]


@dataclass(frozen=True, slots=True)
class Acted:
    """What an act did, or with a dry run would do.

    Attributes:
        sent: Kinds of the commands that are sent.
        retried: Parked messages that are delivered again.
        woken: Consumers whose doorbells the caller rings after the commit.
        new_key: Whether what is sent has a new idempotency key, since the earlier call had no
            effect.
    """

    saga_id: UUID
    before: Status
    after: Status
    sent: tuple[str, ...] = ()
    retried: tuple[UUID, ...] = ()
    woken: frozenset[str] = field(default_factory=frozenset)
    new_key: bool = False


class OperatorActions:
    """Does acts.  Stateless; safe to share between threads."""

    def __init__(
        self, definitions: Definitions, outbox: Outbox, statements: Statements, *, grace: float
    ) -> None:
        self._definitions = definitions
        self._outbox = outbox
        self._statements = statements
        self._grace = grace
        #: Records what operators did.
        self.audit = Audit(outbox, statements)
        #: What operators do to parked deliveries.
        self.parked = ParkedDeliveries(outbox, statements, self.audit, grace=grace)

    def act(self, unit: UnitOfWork, saga_id: UUID, act: Message, *, actor: str) -> Acted:
        """Cancel, replay or skip: `act` is the message that says so, with its reason.

        Raises:
            UnknownSaga: There is no such saga, or this process lacks its definition.
            ActRefused: It cannot be done now.
            PayloadError: The reason is blank, or something is too large to be kept.
        """
        check_words(actor, _reason(act))  # before anything is written
        name, stored, saga = self._locked(unit, saga_id)
        state = stored.state(saga, saga_id)
        message = Envelope(
            id=uuid7(),
            kind=act.kind,
            category=Category.ACT,
            payload=act.to_json(),
            saga_id=saga_id,
            saga=name,
            recipient=saga_consumer(name),
        )
        try:
            decision = decide(saga, state, message)
        except SagaError:
            raise
        except Exception as error:  # one of the definition's functions raised
            raise ActRefused(
                f"saga {saga_id} cannot go on: a function of its definition raised "
                f"{' '.join(describe(error).split())}"
            ) from error
        if decision.verdict is not Verdict.APPLIED:
            raise ActRefused(f"saga {saga_id} cannot be {_PAST[act.kind]}: {decision.why}")
        woken = self._write(unit, name, message, decision)
        # What is said only now and then is told only then.
        given = act.model_dump(mode="json", exclude={"reason"})
        detail = {name: value for name, value in given.items() if value is not False}
        self.audit.record(unit, actor, act.kind.partition(".")[2], _reason(act), detail, saga_id)
        return Acted(
            saga_id,
            state.status,
            decision.state.status,
            tuple(sent.kind for sent in decision.send if sent.category is Category.COMMAND),
            decision.retry,
            frozenset(woken),
            new_key=isinstance(act, Replayed) and act.no_effect,
        )

    def signal(
        self,
        unit: UnitOfWork,
        saga_id: UUID,
        event: Event,
        *,
        id: UUID | None = None,
        actor: str | None = None,
        reason: str = "",
    ) -> frozenset[str]:
        """Send a saga the outside message that one of its waits takes, now or later.

        Args:
            unit: The caller's transaction.
            saga_id: The saga.
            event: The message.
            id: The message's id; the same id sent twice is one message.
            actor: The operator who sends it, and whose act is audited; None for a host.
            reason: Why, if an operator does.

        Returns the consumers to ring.  Raises `UnknownSaga`, and `ActRefused` if no wait of the
        saga takes such a message.
        """
        if actor is not None:
            check_words(actor, reason)
        name, _, saga = self._locked(unit, saga_id)
        kinds = {kind for step in saga if isinstance(step, Wait) for kind in step.awaits}
        if event.kind not in kinds:
            takes = ", ".join(sorted(kinds)) or "nothing"
            raise ActRefused(f"saga {name} waits for no {event.kind}; it takes {takes}")
        message = Envelope(
            id=id or uuid7(),
            kind=event.kind,
            category=Category.EVENT,
            payload=event.to_json(),
            saga_id=saga_id,
            saga=name,
            causation_id=start_id(saga_id),
            root_id=start_id(saga_id),
            recipient=saga_consumer(name),
        )
        woken = frozenset(self._outbox.send(unit, [message]))
        if actor is not None and woken:
            self.audit.record(
                unit, actor, "signalled", reason, {"kind": event.kind}, saga_id, message.id
            )
        return woken

    def _locked(self, unit: UnitOfWork, saga_id: UUID) -> tuple[str, StoredSaga, Saga[Any]]:
        rows = unit.run(self._statements.lock_saga, {"id": saga_id})
        if not rows:
            raise UnknownSaga(f"there is no saga {saga_id}")
        _, name, *stored = rows[0]
        saga = self._definitions.get(name, {}).get(stored[0])
        if saga is None:
            raise UnknownSaga(
                f"saga {saga_id} is a {name} of version {stored[0]}, which this application does "
                "not define; run it with the application that does (--app)"
            )
        return name, StoredSaga(*stored), saga

    def _write(
        self, unit: UnitOfWork, name: str, message: Envelope, decision: Decision[Any]
    ) -> set[str]:
        """Store what was decided, as the orchestrator's hop does, and the act as consumed."""
        state: SagaState[Any] = decision.state
        consumer = saga_consumer(name)
        data = data_to_json(state)
        self._outbox.check(message)
        self._outbox.check_size(data, f"the data of saga {state.id}")
        unit.run(self._statements.save_sagas, saving(name, [(state, data)]))
        unit.run(
            self._statements.record_act,
            {
                "id": message.id,
                "kind": message.kind,
                "payload": message.payload,
                "saga_id": state.id,
                "saga": name,
                "consumer": consumer,
                "position": state.consumed,
            },
        )
        consequences = Consequences(consumer, self._statements, self._outbox.open_deliveries)
        consequences.note(decision, message)
        # A step whose delivery was retried and is done may be skipped, but not ordered again.
        # One that is given up is compensated, once more if need be.
        unless = {Skipped.kind: ("pending",), Cancelled.kind: ()}.get(
            message.kind, ("pending", "done")
        )
        answers = consequences.carry_out(unit, unless=unless)
        consequences.clear_deadlines(unit)
        retried = consequences.retry(unit, self._grace)
        sent = self._outbox.send(unit, [*decision.send, *answers])
        return sent | retried | consequences.woken


_PAST = {"saga.cancelled": "cancelled", "saga.replayed": "replayed", "saga.skipped": "skipped"}


def _reason(act: Message) -> str:
    reason = getattr(act, "reason", "")
    return str(reason)
