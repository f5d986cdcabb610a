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
    """What a message meant to the saga.

    Attributes:
        STALE: Repeated, or late: what it tells is known or no longer awaited.
        UNEXPECTED: Nothing this saga sent can have caused it.
        REFUSED: An operator's act that cannot be done now; `Decision.why` says why.
    """

    APPLIED = "applied"
    STALE = "stale"
    UNEXPECTED = "unexpected"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Decision(Generic[D]):
    """What is to be stored and sent, together or not at all.

    Attributes:
        revoke: Roots whose undelivered messages are to be revoked, each with the step that
            learns by `Revoked` whether its command was.
        unbegun: Of those roots the ones of pivots: revoked only if they were not begun, and
            otherwise tried until their outcome is known, since what they did could not be undone.
        unwind: Compensations that undo all that was caused by a step's commands, with those
            commands.
        clear: Deadlines to clear.
        retry: Parked messages to deliver again.
        supersede: Parked messages that a new one takes the place of.
        why: Why it was refused.
    """

    state: SagaState[D]
    send: tuple[Envelope, ...] = ()
    verdict: Verdict = Verdict.APPLIED
    revoke: tuple[tuple[UUID, str], ...] = ()
    unbegun: tuple[UUID, ...] = ()
    unwind: tuple[tuple[UUID, tuple[UUID, ...]], ...] = ()
    clear: tuple[UUID, ...] = ()
    retry: tuple[UUID, ...] = ()
    supersede: tuple[UUID, ...] = ()
    why: str | None = None


def stale(state: SagaState[D]) -> Decision[D]:
    """Return that nothing follows: what the message tells is known, or no longer awaited."""
    return Decision(state, verdict=Verdict.STALE)
