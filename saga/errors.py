"""Everything that can go wrong by the user's hand, as one small tree."""

from collections.abc import Mapping
from uuid import UUID


class SagaError(Exception):
    """Root of all errors this framework raises on purpose."""


class DefinitionError(SagaError):
    """A saga, step, message or context is declared in a way that cannot work.

    Raised while the declaration is made, never while a saga runs.
    """


class PayloadError(SagaError):
    """A message cannot be sent or read: too large, not valid, or not storable as JSON."""


class UnreadableMessage(PayloadError):
    """A stored message does not fit the class that this process has for its kind.

    Another release may have written it, so it is left for a worker that can read it.
    """


class KeyConflict(SagaError):
    """A saga with this business key was started before, with other data."""


class IdConflict(SagaError):
    """A message is to be sent under an id that belongs to another one already.

    Args:
        reasons: For each such id what is to be said of it.
    """

    def __init__(self, reasons: Mapping[UUID, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


class TooDeep(SagaError):
    """A handler sent something though too many messages lie above it: they cause each other."""


class UnknownSaga(SagaError):
    """No saga has this id or business key."""


class ActRefused(SagaError):
    """An operator's act cannot be done to this saga or delivery now; the text says why."""


class UndeclaredEmission(SagaError):
    """A handler sent a message that its `emits` does not list."""


class NoTransaction(SagaError):
    """A message can only be sent inside a transaction, so that it commits with the rest."""


class StillLocked(SagaError):
    """Another transaction holds a lock that this call needs, and does not end; the text says which."""


class TookTooLong(SagaError):
    """A handler ran for longer than its limit, and was ended."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"took longer than its limit of {limit:g} s")
        self.limit = limit


class Rejected(Exception):
    """Raise it in a handler when the business says no; what the handler wrote is rolled back.

    The saga compensates. Give the reason in words that an operator understands.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
