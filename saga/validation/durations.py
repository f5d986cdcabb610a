"""Durations: how long a timeout, a deadline, a lease or a wait between retries may be."""

from datetime import timedelta

from saga.errors import DefinitionError

#: A time of the future must be one that Postgres and Python can hold, and every page can show.
LONGEST = timedelta(days=365_250)


def check_duration(duration: object, of: str) -> None:
    """Raise `DefinitionError` for what is no positive timedelta of a thousand years at most.

    Args:
        duration: What is declared.
        of: What it is declared for, to begin a sentence with.
    """
    if not isinstance(duration, timedelta) or duration <= timedelta(0):
        raise DefinitionError(f"{of} must be a positive timedelta")
    check_not_too_long(duration, of)


def check_not_too_long(duration: timedelta, of: str) -> None:
    """Raise `DefinitionError` for more than a thousand years."""
    if duration > LONGEST:
        raise DefinitionError(f"{of} must be a thousand years at most, not {duration}")
