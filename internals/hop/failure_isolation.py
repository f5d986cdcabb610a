"""Failure isolation: whose an error is that does not come out of a handler as a plain exception.

A handler fails in more ways than by raising an `Exception`:

- It raises what is none, `SystemExit` of a library that was written for the command line, say.
- Postgres refuses the transaction as a whole, since a constraint that is checked at the commit does
  not hold, or what was sent cannot be stored.  The error then names no delivery, so those of the
  batch are run again one by one, each in a transaction of its own.
- It was idle in its transaction for longer than the server allows, which then ends the connection.

It is the same with a delivery that needs an ordering key or a count which another transaction holds for
long: it waits, and its neighbours, who may need nothing of that, must not wait with it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from uuid import UUID

import psycopg

from internals.database.errors import chain, is_read_only, is_transient, sqlstate
from internals.database.lock_waits import GaveWay
from saga.errors import IdConflict, NoTransaction, PayloadError

#: Raised in a thread that is to stop, and not by what runs there.  By name, since this layer does
#: not know the broker.
_INTERRUPTS = frozenset({"dramatiq.threading.Interrupt", "dramatiq.middleware.threading.Interrupt"})

#: The server ended the session since a transaction was idle, or open, for too long.
_TOO_SLOW = frozenset({"25P03", "25P04"})

#: What a statement of the framework's own is refused for where it is not what it writes: the role,
#: the tables, the server.
_SURROUNDINGS = ("0A", "25", "28", "3D", "3F", "42", "57", "58", "F0", "XX")

#: Seconds after which a handler's connection is looked at when it returns, so that one which the
#: server has ended is not found by the next handler's statement.
PROVED_AFTER = 0.1

#: A delivery, and how many of its runs have failed.
Attempt = tuple[UUID, int]


def is_interrupt(error: BaseException) -> bool:
    """Whether this asks the thread or the process to stop, which is no failure of the handler.

    Python raises a `KeyboardInterrupt` in the main thread only; in another it was raised by code.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_interrupt, error.exceptions))
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    names = (f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__)
    return not _INTERRUPTS.isdisjoint(names)


def is_too_slow(error: BaseException) -> bool:
    """Whether the server ended the session for a transaction that went on for too long."""
    return sqlstate(error) in _TOO_SLOW


def is_refusal(error: BaseException) -> bool:
    """Whether the database refused what it was given, and would refuse it again."""
    if isinstance(error, IdConflict | PayloadError):
        return True
    return not is_transient(error) and any(isinstance(e, psycopg.Error) for e in chain(error))


def is_own(error: BaseException, *, altered: bool) -> bool:
    """Whether a handler brought upon itself, by what it has set, what seems the server's trouble."""
    return altered and is_read_only(error)


def own(error: BaseException, *, altered: bool) -> BaseException:
    """Return an error as the failure of the handler that has set things, if it is that."""
    if not is_own(error, altered=altered):
        return error
    made = NoTransaction(f"a setting of the handler's own refuses its writes: {error}")
    made.__cause__ = error
    return made


class _Stage(Enum):
    HANDLING = auto()
    FINISHING = auto()
    COMMITTING = auto()


@dataclass(frozen=True, slots=True)
class _Hop:
    """How far a thread's hop has come, and what returned in it."""

    stage: _Stage
    runs: Sequence[Attempt] = ()
    #: All that is settled in it, whatever becomes of it.
    settled: Sequence[Attempt] = ()
    #: Whether the last of them has changed settings of the transaction.
    altered: bool = False


class FailureIsolation:
    """Finds the delivery for which the database refuses a whole hop.  Each thread has its own."""

    def __init__(self) -> None:
        self._here = threading.local()

    def begin(self, limit: int) -> int:
        """Begin a hop; returns how many deliveries it may take."""
        self._here.hop = _Hop(_Stage.HANDLING)
        alone: int = getattr(self._here, "alone", 0)
        self._here.alone = max(alone - 1, 0)
        return 1 if alone else limit

    def finishing(
        self, runs: Sequence[Attempt], settled: Sequence[Attempt], *, altered: bool
    ) -> None:
        """Of what is to be settled these runs returned, and what they sent is about to be written."""
        self._here.hop = _Hop(_Stage.FINISHING, runs, settled, altered)

    def committing(self) -> None:
        """All is written."""
        self._here.hop = replace(self._here.hop, stage=_Stage.COMMITTING)

    def find(self, error: Exception) -> tuple[bool, Attempt | None]:
        """Return whether to run the hop again, and the delivery whose fault it was, if known.

        Where several may have caused it they are run one by one from now on.
        """
        hop: _Hop = self._here.hop
        if isinstance(error, GaveWay):
            return self._among(hop.settled)
        if not hop.runs or not (is_refusal(error) or is_own(error, altered=hop.altered)):
            return False, None
        surroundings = (sqlstate(error) or "").startswith(_SURROUNDINGS)
        if hop.stage is _Stage.FINISHING and surroundings:
            return hop.altered, hop.runs[-1] if hop.altered else None
        return self._among(hop.runs)

    def _among(self, runs: Sequence[Attempt]) -> tuple[bool, Attempt | None]:
        if len(runs) == 1:
            return True, runs[0]
        self._here.alone = len(runs)
        return bool(runs), None
