"""Envelope: one message as it is stored and delivered, with what caused it."""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid5

from saga.messages import Message
from saga.retry import Retry


class Category(StrEnum):
    """What sort of message a row of the outbox is.

    Attributes:
        TIMEOUT: A deadline: due later, and revoked when it is not needed any more.
        ACT: What an operator did.
    """

    COMMAND = "command"
    EVENT = "event"
    REPLY = "reply"
    TIMEOUT = "timeout"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and its place in the causal record.  One row of the outbox.

    Attributes:
        id: Same decision, same id: that is how a message sent twice becomes one.
        payload: JSON text.
        saga_id: The saga this belongs to, if any; every message it sets off inherits both.
        causation_id: The message whose handling sent this one.
        root_id: The command of the step under which all of this happens; its own id for a command
            that a saga sends.
        recipient: The consumer it is addressed to; None for an event, which goes to whoever
            subscribed.
        sender: Who sent it: a consumer's name, or None for a host's code.
        awaits: Kinds that the step's saga waits for; inherited, so that an event far down the
            choreography finds its way without anyone knowing the saga.
        retry: The step's retry policy, if it declares one; it overrides the handler's.
        delay: Seconds from the commit of the sender until the message is due.
        intent: What it carries out, where an earlier message meant the same; None: what it says
            itself. Calls to other systems are known by it, so that a replay is no second order.
        undoes: Of a compensation, the idempotency key under which that was called for which it
            undoes.
        depth: Messages above it that handlers handled.  A saga's commands are as deep as its start,
            so that a long saga is no cycle.  Two messages that differ in this alone say the same.
        origin: Of an event from outside: bridge, source and id there, as JSON text.
    """

    id: UUID
    kind: str
    category: Category
    payload: str
    saga_id: UUID | None = None
    saga: str | None = None
    causation_id: UUID | None = None
    root_id: UUID | None = None
    recipient: str | None = None
    sender: str | None = None
    awaits: tuple[str, ...] = ()
    retry: Retry | None = None
    delay: float = 0.0
    intent: UUID | None = None
    undoes: str | None = None
    depth: int = field(default=0, compare=False)
    origin: str | None = None

    def idempotency_key(self, consumer: str) -> str:
        """Return the key for a consumer's calls to other systems: one for each intent."""
        return f"{consumer}:{self.intent or self.id}"

    def ids_below(self, name: str) -> tuple[UUID, UUID | None]:
        """Return the id and the intent of what the handling of this message sends.

        The same name gives the same id, however often this message is handled, and the same
        intent for each message that means the same as this one.
        """
        intent = None if self.intent is None else uuid5(self.intent, name)
        return uuid5(self.id, name), intent

    def caused(
        self,
        message: Message,
        *,
        id: UUID,
        category: Category,
        recipient: str | None,
        sender: str | None,
        intent: UUID | None = None,
    ) -> "Envelope":
        """Return a message that the handling of this one sends, in the same causal tree.

        It inherits the saga, the root and what is awaited; below a message outside any saga,
        that message is the root.  Raises `PayloadError` for a payload that JSON cannot hold.
        """
        return Envelope(
            id=id,
            kind=message.kind,
            category=category,
            payload=message.to_json(),
            saga_id=self.saga_id,
            saga=self.saga,
            causation_id=self.id,
            root_id=self.root_id or self.id,
            recipient=recipient,
            sender=sender,
            awaits=self.awaits,
            intent=intent,
            depth=self.depth + 1,
        )


def command_recipient(kind: str) -> str:
    """Return the context that handles commands of this kind: its first word.

    Commands are routed by their name and not by subscription, so that one which is sent before
    any worker of the context ever booted waits in the inbox instead of going to nobody.
    """
    return kind.partition(".")[0]


def saga_consumer(saga: str) -> str:
    """The inbox of the orchestrator for one kind of saga.

    One inbox a saga, so that a worker that does not know a saga leaves its messages alone.
    A context's name has no dot, so the two can never meet.
    """
    return f"saga.{saga}"
