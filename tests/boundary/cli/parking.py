"""Deliveries that failed for good, and a shop that works meanwhile."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from tests.boundary.worlds.command_line import Orders

WHY = "the bank speaks again"


def park(orders: Orders, count: int) -> list[UUID]:
    """Stuck sagas whose messages were parked one after the other, a minute apart."""
    ids = orders.stuck(count)
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE inbox SET done_at = now() - (:count - n) * interval '1 minute' "
                "FROM (SELECT id, row_number() OVER (ORDER BY seq) AS n FROM outbox "
                "WHERE kind = 'payments.charge') AS o WHERE message_id = o.id"
            ),
            {"count": count},
        )
    return ids


def parked(orders: Orders) -> list[str]:
    """Ids of the parked messages, in the order in which they were sent."""
    return [
        id
        for (id,) in orders.rows(
            "SELECT i.message_id::text FROM inbox AS i JOIN outbox AS o ON o.id = i.message_id "
            "WHERE i.state = 'parked' ORDER BY o.seq"
        )
    ]


def delivery(orders: Orders, id: str) -> tuple[Any, ...]:
    [row] = orders.rows(
        "SELECT state, attempts, last_error FROM inbox WHERE message_id = :id", id=UUID(id)
    )
    return row


def of(group: dict[str, Any]) -> str:
    return str(group["consumer"])
