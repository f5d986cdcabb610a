"""API: what an application calls inside `transaction.atomic()`."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel

from boundary.django.project import runtime
from boundary.orchestration.operator_actions import Acted
from boundary.runtime.saga_handle import SagaHandle
from saga.definition import Saga
from saga.messages import Event

D = TypeVar("D", bound=BaseModel)


def start(
    saga: Saga[D], data: D, *, key: str | None = None, using: str | None = None
) -> SagaHandle:
    """Start a saga in the transaction that the caller is in, and return its id, as a handle.

    Args:
        saga: Its definition.
        data: What it begins with.
        key: The business key, if it is not the definition's to say.  Starting the same key with
            the same data again returns the same saga.
        using: Alias of the database; the one of ``SAGA`` if not given.

    Raises:
        NoTransaction: The caller is not in `transaction.atomic()` on that database.
        KeyConflict: The key was started before, with other data.
        PayloadError: The data or the first command cannot be stored.
        StillLocked: Another transaction, which does not end, is starting the same key.

    Example:
        ```python
        from django.db import transaction
        from pydantic import BaseModel

        from boundary.django import start
        from saga import Command, Saga, Step

        class Order(BaseModel):
            number: str

        class Charge(Command, kind="payments.charge"):
            order: str

        CHECKOUT = Saga(
            "checkout", Order, (Step("payment", lambda order: Charge(order=order.number)),)
        )

        def place(number: str) -> None:
            with transaction.atomic():
                ...  # write the order down
                start(CHECKOUT, Order(number=number))
        ```
    """
    return runtime().start(using, saga, data, key=key)


def start_many(
    saga: Saga[D],
    items: Sequence[D],
    *,
    keys: Sequence[str | None] | None = None,
    using: str | None = None,
) -> list[SagaHandle]:
    """Start a saga for each item, all or none; returns their ids and raises as `start` does."""
    return runtime().start_many(using, saga, items, keys=keys)


def publish(event: Event, *, using: str | None = None) -> UUID:
    """Publish a domain event in the caller's transaction and return its id.

    Raises `NoTransaction` and `PayloadError` as `start` does.
    """
    return runtime().publish(using, event)


def signal(
    saga_id: UUID, event: Event, *, id: UUID | None = None, using: str | None = None
) -> None:
    """Send a saga an outside message that one of its waits takes, in the caller's transaction.

    The same `id` sent twice is one message.  Raises `UnknownSaga`, `ActRefused` and
    `NoTransaction`.
    """
    runtime().signal(using, saga_id, event, id=id)


def cancel(saga_id: UUID, *, reason: str, actor: str, using: str | None = None) -> Acted:
    """Cancel a saga in the caller's transaction; what has not begun is revoked.

    Raises `UnknownSaga`, `ActRefused` (after the pivot, say) and `NoTransaction`.
    """
    return runtime().cancel(using, saga_id, reason=reason, actor=actor)
