"""Finding: one thing that doctor looked at."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is."""

    FINE = "fine"
    #: Worth knowing; nothing is lost by it.
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Words:
    """How things are called where the doctor was called."""

    #: The command line's program.
    program: str = "saga"
    #: Where the servers are configured.
    database: str = "SAGA_DATABASE_URL"
    redis: str = "SAGA_REDIS_URL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    remedy: str | None = None


def fine(check: str, found: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check, Verdict.FINE, found)


def note(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(check, Verdict.NOTE, found, remedy)


def wrong(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that someone should do something about."""
    return Finding(check, Verdict.WRONG, found, remedy)
