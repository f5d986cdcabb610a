"""The pure core: messages, definitions and `decide`.  No clock, no randomness, no IO."""

from saga.causal import CAUSAL, SETTLED
from saga.decide import Decision, Verdict, decide, fold
from saga.definition import Saga
from saga.envelope import Category, Envelope
from saga.errors import (
    ActRefused,
    DefinitionError,
    IdConflict,
    KeyConflict,
    NoTransaction,
    PayloadError,
    Rejected,
    SagaError,
    StillLocked,
    TooDeep,
    TookTooLong,
    UndeclaredEmission,
    UnknownSaga,
    UnreadableMessage,
)
from saga.messages import (
    Cancelled,
    Command,
    Done,
    Event,
    Faulted,
    Message,
    Refused,
    Replayed,
    Revoked,
    Settled,
    Skipped,
    Started,
    TimedOut,
    Undo,
)
from saga.retry import Retry
from saga.state import Direction, Phase, SagaState, Status, StepState
from saga.steps import Parallel, Step, Wait

__all__ = [
    # What a saga is written with
    "Saga",
    "Step",
    "Parallel",
    "Wait",
    "Retry",
    "SETTLED",
    "CAUSAL",
    # Messages
    "Message",
    "Command",
    "Event",
    "Started",
    "Done",
    "Refused",
    "Faulted",
    "TimedOut",
    "Revoked",
    "Settled",
    "Undo",
    # Operators' acts
    "Cancelled",
    "Replayed",
    "Skipped",
    # How a saga moves
    "decide",
    "fold",
    "Decision",
    "Verdict",
    "SagaState",
    "StepState",
    "Status",
    "Phase",
    "Direction",
    # What travels
    "Envelope",
    "Category",
    # Errors
    "SagaError",
    "ActRefused",
    "DefinitionError",
    "IdConflict",
    "KeyConflict",
    "NoTransaction",
    "PayloadError",
    "Rejected",
    "StillLocked",
    "TookTooLong",
    "UndeclaredEmission",
    "TooDeep",
    "UnknownSaga",
    "UnreadableMessage",
]
