"""Undoing: how a story shows a causal compensation, which is many orders and not one."""

from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from saga.definition import Saga
from saga.envelope import Category, Envelope, saga_consumer
from saga.messages import Settled, Undo
from saga.state import SagaState

D = TypeVar("D", bound=BaseModel)


def undoing(saga: Saga[D], state: SagaState[D], id: UUID) -> Envelope:
    """Return an order that stands for all those to undo."""
    return Envelope(
        id=id,
        kind=Undo.kind,
        category=Category.COMMAND,
        payload="{}",
        saga_id=state.id,
        saga=saga.name,
        root_id=id,
        sender=saga_consumer(saga.name),
        awaits=(Settled.kind,),
    )
