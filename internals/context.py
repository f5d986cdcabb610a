"""Context: a bounded context's handlers.  It knows messages, and neither sagas nor other contexts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from internals.work import Work
from saga.envelope import command_recipient
from saga.errors import DefinitionError
from saga.messages import Command, Event, Message
from saga.retry import DEFAULT_RETRY, Retry

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=Message)

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Handler:
    """One function of a context and what it is declared to do."""

    message: type[Message]
    function: Callable[..., None]
    #: The only messages it may send.
    emits: tuple[type[Message], ...]
    retry: Retry
    #: Whether it acts outside the database, so that it is run under a lease and outside of any
    #: transaction.
    external: bool = False
    lease: timedelta = timedelta(minutes=1)


class Context:
    """A bounded context: one consumer, one inbox, one queue.

    Args:
        name: A lower-case word; commands whose kind starts with it come here.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                f"Context {name!r}: a context's name must be a lower-case word such as 'flights'"
            )
        if name == "saga":
            raise DefinitionError("Context 'saga': the name is the framework's own")
        self.name = name
        self.handlers: dict[str, Handler] = {}

    def handles(
        self,
        command: type[C],
        *,
        emits: tuple[type[Message], ...] = (),
        retry: Retry = DEFAULT_RETRY,
        external: bool = False,
        lease: timedelta = timedelta(minutes=1),
    ) -> Callable[[Callable[[C, Work], None]], Callable[[C, Work], None]]:
        """Declare the one handler of a command.

        Args:
            command: Its kind must start with this context's name.
            emits: The messages that the handler may send.
            retry: How often it is tried; a step's own policy goes before it.
            external: It acts outside the database (HTTP, e-mail): no transaction is open while it
                runs; it is given a stable `idempotency_key`, and writes after `work.begin()`.
            lease: How long an external handler may take before another worker runs it again.
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
        return lambda function: self._add(command, function, emits, retry, external, lease)

    def reacts_to(
        self,
        event: type[E],
        *,
        emits: tuple[type[Message], ...] = (),
        retry: Retry = DEFAULT_RETRY,
        external: bool = False,
        lease: timedelta = timedelta(minutes=1),
    ) -> Callable[[Callable[[E, Work], None]], Callable[[E, Work], None]]:
        """Declare this context's reaction to an event, whoever publishes it.

        Args:
            event: Any event class.
            emits: The messages that the handler may send.
            retry: How often it is tried.
            external: As in `handles`.
            lease: As in `handles`.
        """
        if not (isinstance(event, type) and issubclass(event, Event) and event.kind):
            raise DefinitionError(
                f"Context {self.name!r}: reacts_to() takes an Event class that declares a kind, "
                f"not {event!r}"
            )
        return lambda function: self._add(event, function, emits, retry, external, lease)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The kinds of events it reacts to."""
        events = (k for k, h in self.handlers.items() if issubclass(h.message, Event))
        return tuple(sorted(events))

    def _add(
        self,
        message: type[M],
        function: Callable[[M, Work], None],
        emits: tuple[type[Message], ...],
        retry: Retry,
        external: bool,
        lease: timedelta,
    ) -> Callable[[M, Work], None]:
        if message.kind in self.handlers:
            raise DefinitionError(
                f"Context {self.name!r}: {message.kind!r} has a handler already, "
                f"{self.handlers[message.kind].function.__name__!r}"
            )
        listed = emits if isinstance(emits, tuple) else (None,)
        for emitted in listed:
            if not (
                isinstance(emitted, type) and issubclass(emitted, Command | Event) and emitted.kind
            ):
                raise DefinitionError(
                    f"Context {self.name!r}: emits of {function.__name__!r} must be a tuple of "
                    f"Command and Event classes that declare a kind, not {emits!r}"
                )
        self.handlers[message.kind] = Handler(message, function, emits, retry, external, lease)
        return function
