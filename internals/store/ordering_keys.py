"""Ordering keys: the value of an event's field by which some subscription takes events in order."""

from internals.database.errors import sqlstate
from saga.errors import PayloadError

#: Program limit exceeded: an index takes no entry of that size.
_TOO_LARGE = "54000"


def unfit(error: Exception) -> PayloadError | None:
    """Return what to raise if a message could not be sent since its ordering key is too long.

    Only the database knows who takes which events in order, so nobody can look before.
    """
    if sqlstate(error) != _TOO_LARGE:
        return None
    return PayloadError(
        "an event's ordering key is too long to be looked up: the field that a subscription names "
        "in ordered_by must have no more than about 2,000 bytes; order by an id"
    )
