"""Messages: what contexts and sagas say to each other.

A message is a frozen pydantic model with a declared, stable wire name, its *kind*.  Class names
never travel: a class may be renamed or moved while its messages are under way.
"""

import re
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saga.errors import DefinitionError, PayloadError, UnreadableMessage
from saga.json_text import dump_json, first_problem, read_json

#: Kinds of the framework's own messages start with this; a user's kind may not.
RESERVED_PREFIX = "saga."

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class Message(BaseModel):
    """Common part of commands, events and replies; declare a `Command` or an `Event`.

    A message is a frozen pydantic model.  It is strict when it is made, where an unknown field is an
    error, and tolerant when it is read, where one is ignored: a newer release may have added it.

    Args:
        kind: A class argument: the wire name, such as ``flights.reserve``: lower-case words joined by
            dots, the context's name first.  It is stored, so it stays when the class is renamed.
            Without it the class is a family of messages, which only its subclasses are sent of.

    Attributes:
        kind: The wire name.

    Raises:
        DefinitionError: The kind cannot be one, or is the framework's own.

    Example:
        ```python
        from saga import Command

        class Reserve(Command, kind="flights.reserve"):
            seats: int

        assert Reserve.kind == "flights.reserve"
        assert Reserve.from_json('{"seats": 2, "meal": "none"}') == Reserve(seats=2)
        ```
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = kind or ""
        if kind is None:
            return  # a family of messages, such as Command itself
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise DefinitionError(
                f"{cls.__name__}: kind {kind!r} must be lower-case words joined by dots, "
                "the context's name first, such as 'flights.reserve'"
            )
        if kind.startswith(RESERVED_PREFIX) and cls.__module__ != __name__:
            raise DefinitionError(
                f"{cls.__name__}: kinds that start with {RESERVED_PREFIX!r} are the framework's own"
            )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "kind" in cls.model_fields:
            raise DefinitionError(
                f"{cls.__name__}: a field cannot be called kind, which is the message's wire name"
            )

    def to_json(self) -> str:
        """Return the payload as JSON text that `from_json` accepts; raises as `dump_json`."""
        if not type(self).model_fields:
            return "{}"
        return dump_json(self, self.kind)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a payload that somebody else wrote: fields that this class lacks are ignored.

        A newer release, or a partner, may have added them.  Raises `UnreadableMessage` when the
        payload does not fit this message.
        """
        try:
            return read_json(cls, text)
        except ValidationError as error:
            raise UnreadableMessage(f"{cls.kind}: {first_problem(error)}") from error

    @classmethod
    def made_from_json(cls, text: str | bytes) -> Self:
        """Make a message from JSON text that a person gives: an unknown field is an error.

        Raises `PayloadError` when it does not fit this message.
        """
        try:
            return cls.model_validate_json(text, by_alias=True, by_name=True)
        except ValidationError as error:
            raise PayloadError(f"{cls.kind}: {first_problem(error)}") from error


class Command(Message):
    """An order to one context: the one that the first word of the kind names.

    A saga's step or a handler sends it; the context's one handler of that kind gets it, though it
    may boot later.

    Example:
        ```python
        from saga import Command

        class Reserve(Command, kind="flights.reserve"):  # goes to the context "flights"
            trip: str
            seats: int
        ```
    """


class Event(Message):
    """A fact that a context publishes, for all contexts that react to it.

    By convention the kind begins with the context that publishes it.

    Example:
        ```python
        from saga import Event

        class Reserved(Event, kind="flights.reserved"):
            trip: str
            seats: tuple[str, ...]
        ```
    """


class Started(Message, kind="saga.started"):
    """The first message of every saga; its payload is the saga's data, see `saga.envelope`."""


class Done(Message, kind="saga.done"):
    """The command's handler committed, and the step waits for no event."""


class Settled(Message, kind="saga.settled"):
    """Every delivery that descends from the command, or from its compensation, is done."""


class Undo(Message, kind="saga.undo"):
    """An order to the context whose handler ran: undo that run.

    Attributes:
        message_id: The message that was handled.
        message_kind: Its kind.
        payload: What it said.
    """

    message_id: UUID
    message_kind: str
    payload: dict[str, Any]


class Refused(Message, kind="saga.rejected"):
    """A handler raised `Rejected`."""

    reason: str


class Faulted(Message, kind="saga.faulted"):
    """A delivery under the step was parked: an error that retries did not cure.

    Attributes:
        consumer: Whose delivery it was.
        message_kind: Of what message.
        error: What it failed with, in words.
        external: Whether the handler acts outside the database, so that it may have had an effect.
    """

    consumer: str
    message_kind: str
    error: str
    external: bool = False


class TimedOut(Message, kind="saga.timed_out"):
    """The deadline of a step passed, or with no step that of the saga."""

    step: str | None = None


class Revoked(Message, kind="saga.revoked"):
    """Whether a command that was given up is revoked: it is not started, or not once more.

    It is the answer to a revocation; and a run that was under way then says so when it failed.

    Attributes:
        step: The step; only in the answer.
        revoked: Whether it is revoked.
        started: Whether a handler that acts outside the database was started, and so may have had its
            effect.
    """

    step: str | None = None
    revoked: bool
    started: bool = False


class Cancelled(Message, kind="saga.cancelled"):
    """A person, or the host, wants the saga undone."""

    reason: str


class Replayed(Message, kind="saga.replayed"):
    """A person lets a stuck saga go on.

    Attributes:
        reason: Why; kept in the audit.
        from_step: Undo what was done from this step on, and go forward from there again.
        data: Fields of the saga's data to correct.
        no_effect: The person knows that the calls which failed had no effect elsewhere: what is sent
            again has a new idempotency key.
    """

    reason: str
    from_step: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    no_effect: bool = False


class Skipped(Message, kind="saga.skipped"):
    """A person declares a step of a stuck saga settled by other means."""

    step: str
    reason: str
