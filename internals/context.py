"""Context: a bounded context's handlers.  It knows messages, and neither sagas nor other contexts."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from internals.handler import Handler, UndoHandler
from internals.ordering_field import check_ordered_by
from internals.undo import NoUndo
from internals.work import Work
from saga.envelope import Envelope, command_recipient
from saga.errors import DefinitionError
from saga.messages import Command, Event, Message, Undo
from saga.retry import DEFAULT_RETRY, Retry
from saga.validation.durations import check_duration
from saga.validation.functions import check_function, name_of
from saga.validation.kinds import check_kinds

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=Message)


#: What a handler declares to undo its work: a function that is given the same message.
UndoOf = Callable[[M, Work], None] | NoUndo | None

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Context:
    """A bounded context: its handlers, with one inbox and one queue.

    Args:
        name: A lower-case word; commands whose kind starts with it come here.
        database: The name of the database that has its tables, if that is not the one that has the
            sagas'; the runtime finds it by this name.
        alone: Each delivery has a transaction of its own, where several would share one.  For
            handlers that change settings of their transaction by way of a function in the database,
            which nobody sees; of those that do it themselves the next delivery sees nothing anyway.

    Raises:
        DefinitionError: The name cannot be one.

    Example:
        ```python
        from internals import Context, Work
        from saga import Command, Event, Rejected

        class Reserve(Command, kind="stock.reserve"):
            item: str

        class Reserved(Event, kind="stock.reserved"):
            item: str

        stock = Context("stock")

        @stock.handles(Reserve, emits=(Reserved,))
        def reserve(command: Reserve, work: Work) -> None:
            if not work.execute(
                "UPDATE stock SET left = left - 1 WHERE item = %(item)s AND left > 0 RETURNING 1",
                {"item": command.item},
            ):
                raise Rejected(f"there is no {command.item} left")
            work.publish(Reserved(item=command.item))
        ```
    """

    def __init__(self, name: str, *, database: str | None = None, alone: bool = False) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                f"Context {name!r}: a context's name must be a lower-case word such as 'flights'"
            )
        if name == "saga":
            raise DefinitionError("Context 'saga': the name is the framework's own")
        if database is not None and not (isinstance(database, str) and _NAME.fullmatch(database)):
            raise DefinitionError(
                f"Context {name!r}: database {database!r} must be a lower-case word, the "
                "name by which the runtime finds it"
            )
        self.name = name
        self.database = database
        self.alone = alone
        self.handlers: dict[str, Handler] = {}
        #: How the handlers' work is undone, by the kind of what they handled.
        self.undos: dict[str, Handler | NoUndo] = {}

    def handles(
        self,
        command: type[C],
        *,
        emits: tuple[type[Message], ...] = (),
        retry: Retry = DEFAULT_RETRY,
        external: bool = False,
        lease: timedelta = timedelta(minutes=1),
        limit: timedelta | None = None,
        undo: UndoOf[C] = None,
    ) -> Callable[[Callable[[C, Work], None]], Callable[[C, Work], None]]:
        """Declare the one handler of a command.

        Args:
            command: Its kind must start with this context's name.
            emits: The messages that the handler may send.
            retry: How often it is tried; a step's own policy goes before it.
            external: It acts outside the database (HTTP, e-mail): no transaction is open while it
                runs; it is given a stable `idempotency_key`, and writes after `work.begin()`.
            lease: How long an external handler may take before another worker runs it again.
            limit: How long a run may take.  It is ended then, has failed, and is tried again as
                `retry` says.  By default that is what the setting `handler_limit` says, and for
                an external handler ten times its lease.
            undo: Undoes what the handler did, given the same command, where a step is compensated
                with `CAUSAL`; or `no_undo` with the reason why that cannot be.  It may emit what
                the handler may, and is run, retried and parked as the handler is.

        Raises `DefinitionError` for a declaration that cannot work.
        """
        if not (isinstance(command, type) and issubclass(command, Command) and command.kind):
            raise DefinitionError(
                f"Context {self.name!r}: handles() takes a Command class that declares a kind, "
                f"not {command!r}"
            )
        if command_recipient(command.kind) != self.name:
            raise DefinitionError(
                f"Context {self.name!r}: a command of kind {command.kind!r} goes to the context "
                f"{command_recipient(command.kind)!r}; rename one of them"
            )
        return lambda function: self._add(
            Handler(command, function, emits, retry, external, lease, undo, limit=limit)
        )

    def reacts_to(
        self,
        event: type[E],
        *,
        emits: tuple[type[Message], ...] = (),
        retry: Retry = DEFAULT_RETRY,
        external: bool = False,
        lease: timedelta = timedelta(minutes=1),
        limit: timedelta | None = None,
        undo: UndoOf[E] = None,
        ordered_by: str | None = None,
    ) -> Callable[[Callable[[E, Work], None]], Callable[[E, Work], None]]:
        """Declare this context's reaction to an event of any publisher.

        Args:
            event: Any event class.
            emits: The messages that the handler may send.
            retry: How often it is tried.
            external: As in `handles`.
            lease: As in `handles`.
            limit: As in `handles`.
            undo: As in `handles`.
            ordered_by: A field of the event (``flight``, or ``flight.number`` within another).
                Events with the same value are handled in the order in which they were committed,
                one at a time; one that is parked holds up those behind it, and no others.
                Publishers of the same value then wait for each other until they commit.

        Raises `DefinitionError` for a declaration that cannot work.
        """
        if not (isinstance(event, type) and issubclass(event, Event) and event.kind):
            raise DefinitionError(
                f"Context {self.name!r}: reacts_to() takes an Event class that declares a kind, "
                f"not {event!r}"
            )
        if ordered_by is not None:
            check_ordered_by(event, ordered_by, f"Context {self.name!r}: {event.kind!r}")
        return lambda function: self._add(
            Handler(event, function, emits, retry, external, lease, undo, ordered_by, limit)
        )

    @property
    def subscriptions(self) -> tuple[tuple[str, str | None], ...]:
        """The kinds of events it reacts to, each with the field that orders them."""
        return tuple(
            (kind, handler.ordered_by)
            for kind, handler in sorted(self.handlers.items())
            if issubclass(handler.message, Event)
        )

    def handler_of(self, message: Envelope) -> Handler | NoUndo | None:
        """Return what handles this message, or why it cannot be undone; None if it is unknown."""
        if message.kind != Undo.kind:
            return self.handlers.get(message.kind)
        kind = Undo.from_json(message.payload).message_kind
        if kind in self.handlers and kind not in self.undos:
            return NoUndo("its handler declares no undo")
        return self.undos.get(kind)

    def _add(self, handler: Handler) -> Callable[..., Any]:
        message, function, emits = handler.message, handler.function, handler.emits
        if message.kind in self.handlers:
            raise DefinitionError(
                f"Context {self.name!r}: {message.kind!r} has a handler already, "
                f"{name_of(self.handlers[message.kind].function)!r}"
            )
        self._check(handler)
        undo = handler.undo
        if isinstance(undo, NoUndo):
            self.undos[message.kind] = undo
        elif undo is not None:
            self.undos[message.kind] = UndoHandler(
                message,
                undo,
                emits,
                handler.retry,
                handler.external,
                handler.lease,
                limit=handler.limit,
            )
        self.handlers[message.kind] = handler
        return function

    def _check(self, handler: Handler) -> None:
        """Raise `DefinitionError` for what cannot work."""
        name, undo, emits = name_of(handler.function), handler.undo, handler.emits
        of = f"Context {self.name!r}: "
        check_function(handler.function, f"{of}handler {name!r}", "message", "work")
        listed = emits if isinstance(emits, tuple) else (None,)
        for emitted in listed:
            if not (
                isinstance(emitted, type) and issubclass(emitted, Command | Event) and emitted.kind
            ):
                raise DefinitionError(
                    f"{of}emits of {name!r} must be a tuple of Command and Event classes that "
                    f"declare a kind, not {emits!r}"
                )
        if not isinstance(handler.retry, Retry):
            raise DefinitionError(
                f"{of}retry of {name!r} must be a Retry, such as Retry(attempts=3), "
                f"not {handler.retry!r}"
            )
        check_duration(handler.lease, f"{of}lease of {name!r}")
        if handler.limit is not None:
            check_duration(handler.limit, f"{of}limit of {name!r}")
        if undo is not None and not isinstance(undo, NoUndo):
            if not callable(undo):
                raise DefinitionError(
                    f"{of}undo of {name!r} must be a function or no_undo(reason), not {undo!r}"
                )
            check_function(undo, f"{of}undo of {name!r}", "message", "work")
        check_kinds((*self.messages, handler.message, *emits), f"Context {self.name!r}")

    @property
    def messages(self) -> Iterator[type[Message]]:
        """The classes of what it handles and of what it may send."""
        for handler in self.handlers.values():
            yield from (handler.message, *handler.emits)
