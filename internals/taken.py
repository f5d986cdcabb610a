"""Taken ids: messages that a batch cannot send, since other messages have their ids.

It is found when the batch is written, which undoes all of it.  So the batch is run again, knowing
them: whoever sends one of them fails, and alone.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from internals.consumer import RunAgain
from saga.envelope import Envelope
from saga.errors import IdConflict


class TakenIds:
    """What the last run of a consumer's batch in this thread could not send."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @contextmanager
    def writing(self, sent: Iterable[Envelope]) -> Iterator[None]:
        """Write a batch inside, with these messages.

        Raises `RunAgain` where one of them cannot be sent: it is known in the next run.
        """
        known = self._known()
        self._of_thread.reasons = {}
        try:
            yield
        except IdConflict as error:
            found = {m.id for m in sent} & error.reasons.keys() - known.keys()
            if not found:
                raise
            self._of_thread.reasons = {**known, **{id: error.reasons[id] for id in found}}
            raise RunAgain from error

    def check(self, sent: Iterable[Envelope]) -> None:
        """Raise `IdConflict` if one of these could not be sent in the last run."""
        if known := self._known():
            reasons = {m.id: known[m.id] for m in sent if m.id in known}
            if reasons:
                raise IdConflict(reasons)

    def _known(self) -> Mapping[UUID, str]:
        known: Mapping[UUID, str] = getattr(self._of_thread, "reasons", {})
        return known
