"""Work: what a handler is given besides the message."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Protocol, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel

from internals.database.unit_of_work import UnitOfWork
from internals.handler_transaction import HandlerTransaction
from saga.definition import Saga
from saga.envelope import Category, Envelope, command_recipient
from saga.errors import NoTransaction, UndeclaredEmission
from saga.messages import Command, Event, Message

D = TypeVar("D", bound=BaseModel)

#: Entered around each run of a handler.
Around = Callable[["Work"], AbstractContextManager[object]]


class StartsSagas(Protocol):
    """Starts sagas in a handler's transaction; a runtime gives it to each run."""

    def __call__(
        self, unit: UnitOfWork, saga: Saga[D], items: Sequence[D], keys: Sequence[str | None]
    ) -> list[UUID]:
        """Return the ids in the order of the items."""


_handling: ContextVar["Work | None"] = ContextVar("handling", default=None)


def handling() -> "Work | None":
    """Return the work of the handler that runs in this thread, or task; None outside of one."""
    return _handling.get()


def depth_here() -> int:
    """Return the depth of what is started or published here.

    In a handler it is below its message, whatever transaction is used.
    """
    work = _handling.get()
    return 0 if work is None else work.message.depth + 1


def nothing_around(_: "Work") -> AbstractContextManager[None]:
    """Set up nothing for a handler."""
    return nullcontext()


class Work(HandlerTransaction):
    """One run of one handler, inside the transaction that settles its delivery.

    Whatever is written with `connection` or `session` and whatever is sent commits together
    with the delivery, or not at all.  The handler never commits.  When it ends, its work is closed:
    from then on all that writes or sends raises `NoTransaction`.

    Example:
        ```python
        from internals import Context, Work
        from saga import Command, Event

        class Charge(Command, kind="payments.charge"):
            order: str
            cents: int

        class Charged(Event, kind="payments.charged"):
            order: str

        payments = Context("payments")

        @payments.handles(Charge, emits=(Charged,))
        def charge(command: Charge, work: Work) -> None:
            work.execute(
                "INSERT INTO payment VALUES (%(key)s, %(cents)s)",
                {"key": work.idempotency_key, "cents": command.cents},
            )
            work.publish(Charged(order=command.order))
        ```
    """

    def __init__(
        self,
        message: Envelope,
        *,
        consumer: str,
        emits: tuple[type[Message], ...],
        unit: UnitOfWork | None = None,
        begin: Callable[[], UnitOfWork] | None = None,
    ) -> None:
        super().__init__(message, unit, begin)
        self.sent: list[Envelope] = []
        #: None where none can be started: in a context that has a database of its own.
        self.starts_sagas: StartsSagas | None = None
        #: Whose handler it is.
        self.consumer = consumer
        self._emits = emits
        #: How much of each kind was sent, and what of it has an element's name.
        self._counts: Counter[str] = Counter()
        self._entered: Token[Work | None] | None = None

    @property
    def message_id(self) -> UUID:
        """The id of the message being handled."""
        return self.message.id

    @property
    def saga_id(self) -> UUID | None:
        """The saga that this belongs to, for logs; a handler should not depend on it."""
        return self.message.saga_id

    @property
    def idempotency_key(self) -> str:
        """For calls to other systems: the same for whatever means the same.

        However often the delivery is run, and when its step is replayed too; another one once the
        earlier effect is known to be undone, or an operator has said that there was none.
        """
        return self.message.idempotency_key(self.consumer)

    @property
    def undoes(self) -> str | None:
        """Of a compensation, or an undo, the idempotency key of what it undoes; else None.

        It is the key that the handler was given whose work is undone, perhaps in several runs.
        """
        return self.message.undoes

    def publish(self, event: Event, *, element: str | None = None) -> None:
        """Tell everyone who listens.

        The event's id follows from the message being handled and from how many of its kind were
        sent before, so a run that is repeated sends the same.

        Args:
            event: What happened.
            element: What it is about, such as the line of an order, in a handler that may send
                several of a kind in another order, or others of them, when it is run again.

        Raises `UndeclaredEmission` unless `emits` lists it, and ValueError for an element of which
        such a message was sent before.
        """
        if not isinstance(event, Event):
            raise TypeError(f"publish() takes an Event, not {type(event).__name__}")
        self._add(event, Category.EVENT, None, element)

    def send(self, command: Command, *, element: str | None = None) -> None:
        """Order something of a context; the arguments and errors are those of `publish`."""
        if not isinstance(command, Command):
            raise TypeError(f"send() takes a Command, not {type(command).__name__}")
        self._add(command, Category.COMMAND, command_recipient(command.kind), element)

    def start(self, saga: Saga[D], data: D, *, key: str | None = None) -> UUID:
        """Start a saga in this transaction and return its id.

        It begins when the delivery is settled, or never.  The id follows from the message being
        handled, so a run that is repeated starts the same saga.

        Args:
            saga: Its definition.
            data: What it begins with.
            key: The business key, if it is not the definition's to say.  Starting the same key
                with the same data again returns the same saga.

        Raises:
            KeyConflict: The key was started before, with other data.
            NoTransaction: The handler is external and did not `begin()`, or its context has a
                database of its own; publish an event there, and start the saga where it is handled.
            PayloadError: The data or the first command cannot be stored.
            TooDeep: Sagas start each other, in a cycle.
            StillLocked: Another transaction, which does not end, is starting the same key.
        """
        return self.start_many(saga, [data], keys=[key])[0]

    def start_many(
        self, saga: Saga[D], items: Sequence[D], *, keys: Sequence[str | None] | None = None
    ) -> list[UUID]:
        """Start a saga for each item, all or none; returns the ids in their order.

        Raises what `start` raises.
        """
        with self._using:
            unit = self._open
            if self.starts_sagas is None:
                raise NoTransaction(
                    f"the handler of {self.message.kind} in {self.consumer} is in a database of "
                    "its own, and sagas begin in the one that has the sagas' tables; publish an "
                    "event, and start the saga in the handler of another context"
                )
            entered = _handling.set(self)  # it may be a thread of the handler's
            try:
                return self.starts_sagas(unit, saga, items, keys or [None] * len(items))
            finally:
                _handling.reset(entered)

    def name_start(self, saga: str, key: str | None) -> str:
        """Return the name, below the message, of a saga that the handler starts."""
        count = self._count(f"start {saga}" if key is None else f"start {saga}={key}")
        return f"{self.consumer}:start {saga}:{count}" + ("" if key is None else f"={key}")

    def __enter__(self) -> Self:
        self._entered = _handling.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._entered is not None:
            _handling.reset(self._entered)
        self._close()

    def _add(
        self, message: Message, category: Category, recipient: str | None, element: str | None
    ) -> None:
        with self._using:
            self._refuse_if_closed()
            self._send(message, category, recipient, element)

    def _send(
        self, message: Message, category: Category, recipient: str | None, element: str | None
    ) -> None:
        if type(message) not in self._emits:
            raise UndeclaredEmission(
                f"the handler of {self.message.kind} in {self.consumer} sent {message.kind}, "
                "which its emits does not list; add it there"
            )
        id, intent = self.message.ids_below(self._name(message.kind, element))
        self.sent.append(
            self.message.caused(
                message,
                id=id,
                category=category,
                recipient=recipient,
                sender=self.consumer,
                intent=intent,
            )
        )

    def _name(self, kind: str, element: str | None) -> str:
        """Return what tells a message from all others that the handling of this one sends."""
        if element is None:
            return f"{self.consumer}:{kind}:{self._count(kind)}"
        if not (isinstance(element, str) and element):
            raise TypeError(f"element= takes the name of what {kind} is about, not {element!r}")
        if self._count(f"{kind}={element}") > 1:
            raise ValueError(
                f"the handler of {self.message.kind} in {self.consumer} sent {kind} twice for "
                f"element {element!r}; give each its own element"
            )
        return f"{self.consumer}:{kind}={element}"

    def _count(self, what: str) -> int:
        self._counts[what] += 1
        return self._counts[what]
