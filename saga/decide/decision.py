"""Decision: what a message meant to a saga, and what is stored and sent for it.  Part of `decide`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from saga.envelope import Envelope
from saga.state import SagaState

D = TypeVar("D", bound=BaseModel)


class Verdict(StrEnum):
    """What a message meant to the saga."""

    APPLIED = "applied"
    #: Repeated, or late: what it tells is known or no longer awaited.
    STALE = "stale"
    #: Nothing this saga sent can have caused it.
    UNEXPECTED = "unexpected"
    #: An operator's act that cannot be done now; `Decision.why` says why.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Decision(Generic[D]):
    """What is to be stored and sent, together or not at all."""

    state: SagaState[D]
    send: tuple[Envelope, ...] = ()
    verdict: Verdict = Verdict.APPLIED
    #: Roots whose undelivered messages are to be taken back, each with the step that is to be
    #: told by `Revoked` whether its command was.
    revoke: tuple[tuple[UUID, str], ...] = ()
    #: Of those roots the ones of pivots: taken back only if nobody has begun them, and otherwise
    #: tried until their outcome is known, since what they did could not be undone.
    unbegun: tuple[UUID, ...] = ()
    #: Compensations that undo all that was caused by a step's commands, with those commands.
    unwind: tuple[tuple[UUID, tuple[UUID, ...]], ...] = ()
    #: Deadlines to clear.
    clear: tuple[UUID, ...] = ()
    #: Parked messages to deliver again.
    retry: tuple[UUID, ...] = ()
    #: Parked messages that a new one takes the place of.
    supersede: tuple[UUID, ...] = ()
    #: Why it was refused.
    why: str | None = None


def stale(state: SagaState[D]) -> Decision[D]:
    """Return that nothing follows: what the message tells is known, or no longer awaited."""
    return Decision(state, verdict=Verdict.STALE)
