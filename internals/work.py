"""Work: what a handler is given besides the message."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from threading import RLock
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from internals.database.unit_of_work import Row, UnitOfWork
from saga.envelope import Category, Envelope, command_recipient
from saga.errors import NoTransaction, UndeclaredEmission
from saga.messages import Command, Event, Message

#: Entered around each run of a handler.
Around = Callable[["Work"], AbstractContextManager[object]]


_handling: ContextVar["Work | None"] = ContextVar("handling", default=None)


def handling() -> "Work | None":
    """Return the work of the handler that runs in this thread, or task; None outside of one."""
    return _handling.get()


def depth_here() -> int:
    """Return the depth of what is started or published here: in a handler it is below its message,
    whatever transaction is used."""
    work = _handling.get()
    return 0 if work is None else work.message.depth + 1


def nothing_around(_: "Work") -> AbstractContextManager[None]:
    """Set up nothing for a handler."""
    return nullcontext()


class Work:
    """One run of one handler, inside the transaction that settles its delivery.

    Whatever is written with `connection` or `session` and whatever is sent commits together
    with the delivery, or not at all.  The handler never commits.  When it ends, its work is closed:
    from then on all that writes or sends raises `NoTransaction`.
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
        self.message = message
        self.sent: list[Envelope] = []
        #: Whose handler it is.
        self.consumer = consumer
        self._unit = unit
        self._begin = begin
        self._emits = emits
        #: How much of each kind was sent, and what of it has an element's name.
        self._counts: Counter[str] = Counter()
        self._session: Session | None = None
        self._entered: Token[Work | None] | None = None
        self._closed = False
        #: Held while the transaction is used, so that none of it is under way when the handler ends.
        self._using = RLock()
        #: Whether the handler may have written anything.
        self.touched = False

    @property
    def connection(self) -> Any:
        """The SQLAlchemy connection (in Django: Django's) that is in this transaction.

        Raises `NoTransaction` in a handler that acts outside the database, until it is done with
        that and says `begin()`.
        """
        return self._open.connection

    @property
    def _open(self) -> UnitOfWork:
        self._refuse_if_closed()
        if self._unit is None:
            raise NoTransaction(
                f"the handler of {self.message.kind} is external, so no transaction is open while "
                "it calls out; call work.begin() after the call, then write"
            )
        self.touched = True
        return self._unit

    def writes_with(self, connection: object) -> bool:
        """Whether this is the connection that is in this transaction."""
        return self._unit is not None and self._unit.connection is connection

    @property
    def session(self) -> Session:
        """An ORM session on that connection; flushed when the handler returns."""
        self._refuse_if_closed()
        if self._session is None:
            connection = self.connection
            if not isinstance(connection, Connection):
                raise TypeError("work.session needs SQLAlchemy; this transaction is not its own")
            self._session = Session(
                connection, join_transaction_mode="create_savepoint", close_resets_only=False
            )
        return self._session

    def execute(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Run one SQL statement in this transaction, at the driver's own speed.

        Args:
            statement: With ``%(name)s`` placeholders; a literal ``%`` is written ``%%``.
            parameters: Their values.

        Returns the rows, if it has any.  Raises what the driver raises, and `NoTransaction` as
        `connection` does.
        """
        with self._using:
            return list(self._open.run(statement, parameters or {}))

    def begin(self) -> None:
        """Open the transaction, in a handler that acts outside the database: call out first.

        What is written from here on commits together with the delivery and what is sent.
        """
        with self._using:
            self._refuse_if_closed()
            if self._unit is None:
                assert self._begin is not None
                self._unit = self._begin()

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
            event: What is told.
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

    def name_start(self, saga: str, key: str | None) -> str:
        """Return the name, below the message, of a saga that the handler starts."""
        count = self._count(f"start {saga}" if key is None else f"start {saga}={key}")
        return f"{self.consumer}:start {saga}:{count}" + ("" if key is None else f"={key}")

    def finish(self) -> None:
        """Write out the session's pending changes; the framework calls it."""
        if self._session is not None:
            self._session.commit()  # releases the session's savepoint, no more

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

    def _close(self) -> None:
        """Let nobody use it any more: a thread of the handler's, or who has kept it.

        The transaction goes on with other deliveries, and the connection with other transactions.
        A statement that is under way is waited for: it began while the handler ran.
        """
        with self._using:
            self._closed = True
            self._unit = self._begin = None
            if self._session is not None:
                self._session.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise NoTransaction(
                f"the handler of {self.message.kind} has ended, and its work with it; do all of it "
                "before the handler returns, and wait there for threads that take part in it"
            )

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
