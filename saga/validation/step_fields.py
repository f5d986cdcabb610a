"""Step fields: the names, the times and the events that a definition gives."""

import re
from datetime import timedelta

from saga.errors import DefinitionError
from saga.messages import Event
from saga.validation.durations import check_duration

#: What sagas and steps may be called.
NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_name(what: str, name: object) -> None:
    """Raise `DefinitionError` for what cannot be a step's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(
            f"{what} {name!r}: a step's name must be a lower-case word such as 'flight'"
        )


def check_timeout(name: str, timeout: timedelta | None) -> None:
    """Raise `DefinitionError` for a time that cannot be waited."""
    if timeout is not None:
        check_duration(timeout, f"{name!r}: a timeout or deadline")


def require_event(step: str, role: str, event: object) -> None:
    """Raise `DefinitionError` for what is no class of an event with a kind."""
    if not (isinstance(event, type) and issubclass(event, Event) and event.kind):
        raise DefinitionError(
            f"Step {step!r}: {role} must name an Event class that declares a kind, not {event!r}"
        )
