"""Messages: what contexts and sagas say to each other.

A message is a frozen pydantic model with a declared, stable wire name, its *kind*.  Class names
never travel: a class may be renamed or moved while its messages are under way.
"""

import re
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saga.errors import DefinitionError, PayloadError

#: Kinds of the framework's own messages start with this; a user's kind may not.
RESERVED_PREFIX = "saga."

#: A NUL as JSON writes it, and not a backslash that happens to stand before "u0000".
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


class Message(BaseModel):
    """Common part of commands, events and replies; declare one of those, never a bare message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The wire name, such as ``flights.reserve``: the context's name, a dot, what is said.
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
        """Read a payload; raises `PayloadError` when it does not fit this message."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise PayloadError(f"{cls.kind}: {first_problem(error)}") from error


class Command(Message):
    """An order to one context, named by the first word of the kind: ``flights.reserve``."""


class Event(Message):
    """A fact that a context tells whoever listens: ``flights.reserved``."""


class Started(Message, kind="saga.started"):
    """The first message of every saga; its payload is the saga's data, see `saga.envelope`."""


class Done(Message, kind="saga.done"):
    """The command's handler committed, and the step waits for no event."""


class Settled(Message, kind="saga.settled"):
    """Every delivery that descends from the command, or from its compensation, is done."""


class Undo(Message, kind="saga.undo"):
    """An order to the context whose handler ran: undo that run."""

    #: The message that was handled.
    message_id: UUID
    message_kind: str
    payload: dict[str, Any]


class Refused(Message, kind="saga.rejected"):
    """A handler raised `Rejected`."""

    reason: str


class Faulted(Message, kind="saga.faulted"):
    """A delivery under the step was parked: an error that retries did not cure."""

    consumer: str
    message_kind: str
    error: str
    #: Whether the handler acts outside the database, so that it may have had an effect.
    external: bool = False


class TimedOut(Message, kind="saga.timed_out"):
    """The deadline of a step passed, or with no step that of the saga."""

    step: str | None = None


class Revoked(Message, kind="saga.revoked"):
    """Whether a command that was given up is taken back: it is not started, or not once more.

    It is the answer to a revocation; and a run that was under way then says so when it failed.
    """

    #: Only in the answer.
    step: str | None = None
    revoked: bool
    #: Whether a handler that acts outside the database was started, and so may have had its effect.
    started: bool = False


class Cancelled(Message, kind="saga.cancelled"):
    """A person, or the host, wants the saga undone."""

    reason: str


class Replayed(Message, kind="saga.replayed"):
    """A person lets a stuck saga go on."""

    reason: str
    #: Undo what was done from this step on, and go forward from there again.
    from_step: str | None = None
    #: Fields of the saga's data to correct.
    data: dict[str, Any] = Field(default_factory=dict)
    #: The person knows that the calls which failed had no effect elsewhere: what is sent anew has a
    #: new idempotency key.
    no_effect: bool = False


class Skipped(Message, kind="saga.skipped"):
    """A person declares a step of a stuck saga settled by other means."""

    step: str
    reason: str


def dump_json(model: BaseModel, name: str) -> str:
    """Return a model as JSON text that Postgres can store; `name` is for the error.

    Raises `PayloadError` for what would not come back equal: NaN and infinity (JSON has
    neither), NUL characters (Postgres stores none), and what pydantic cannot write.
    """
    try:
        text = model.model_dump_json()
    except (ValueError, TypeError) as error:
        raise PayloadError(f"{name}: cannot be written as JSON") from error
    if _NUL.search(text):
        raise PayloadError(f"{name}: a text contains a NUL character, which Postgres refuses")
    try:
        back = type(model).model_validate_json(text)
    except ValidationError as error:
        raise PayloadError(f"{name}: {first_problem(error)}") from error
    if back != model:
        raise PayloadError(f"{name}: it does not come back equal from JSON; use plain fields")
    return text


def first_problem(error: ValidationError) -> str:
    """One clause of pydantic's report, without the value: payloads never reach a log."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "payload"
    return f"field {where}: {first['msg']}"
