"""Handler: one function of a context, what it is declared to do, and how it is run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from internals.undo import NoUndo
from internals.work import Work
from saga.envelope import Envelope
from saga.errors import UnreadableMessage
from saga.messages import Message, Undo
from saga.retry import Retry
from saga.validation.functions import check_returned, name_of


class Unreadable(Exception):
    """A delivery's payload does not fit the class that this process has for its kind.

    Only a handler's own message raises it: whatever else cannot be read is the handler's failure.
    """


@dataclass(frozen=True, slots=True)
class Handler:
    """One function of a context and what it is declared to do.

    Attributes:
        emits: The only messages it may send.
        external: Whether it acts outside the database, so that it is run under a lease and outside
            of any transaction.
        undo: How what it did is undone; None where nobody said.
        ordered_by: The event's field whose deliveries of equal value go in order.
        limit: How long a run may take; None where nobody said.
    """

    message: type[Message]
    function: Callable[..., object]
    emits: tuple[type[Message], ...]
    retry: Retry
    external: bool = False
    lease: timedelta = timedelta(minutes=1)
    undo: Callable[..., None] | NoUndo | None = None
    ordered_by: str | None = None
    limit: timedelta | None = None

    def read(self, message: Envelope) -> Message:
        """Return the message; raises `Unreadable` where the class here does not fit it."""
        try:
            return self.message.from_json(self._payload(message))
        except UnreadableMessage as error:
            raise Unreadable(str(error)) from error

    def run(self, message: Envelope, work: Work) -> None:
        """Call the function with the message; raises `Unreadable` as `read` does."""
        returned = self.function(self.read(message), work)
        if returned is not None:
            check_returned(
                returned, f"the handler of {self.message.kind}, {name_of(self.function)},"
            )

    def handle(self, work: Work) -> None:
        """Run it on what `work` is for, and write out what it has pending; raises as `run` does."""
        self.run(work.message, work)
        work.finish()

    def _payload(self, message: Envelope) -> str:
        return message.payload


class UndoHandler(Handler):
    """A handler's undo: it is given the message that was handled then."""

    def _payload(self, message: Envelope) -> str:
        return json.dumps(Undo.from_json(message.payload).payload)
