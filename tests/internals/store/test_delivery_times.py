"""What a delivery waited for, told from the times of its row."""

from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from internals.store.delivery_times import waited

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


#: Sent at noon, due at once, claimed after a second, done two seconds later; the handler ran for one.
PLAIN: dict[str, Any] = {
    "sent_at": at(0),
    "due_at": at(0),
    "ready_at": None,
    "rung_at": None,
    "claimed_at": at(1),
    "done_at": at(3),
    "took": 1.0,
}


@pytest.mark.parametrize(
    ("times", "due", "outbox", "queue", "batch", "handler"),
    [
        ({}, 0, 0, 1, 1, 1),
        ({"due_at": at(-1)}, 0, 0, 1, 1, 1),
        ({"due_at": at(0.75)}, 0.75, 0, 0.25, 1, 1),
        ({"rung_at": at(0.75)}, 0, 0.75, 0.25, 1, 1),
        ({"due_at": at(0.5), "rung_at": at(0.75)}, 0.5, 0.25, 0.25, 1, 1),
        # It rang before an earlier attempt, which failed.
        ({"due_at": at(0.5), "rung_at": at(0.25)}, 0.5, 0, 0.5, 1, 1),
        # Another worker had claimed it by the time at which the relay rang.
        ({"rung_at": at(2)}, 0, 1, 0, 1, 1),
        # Consumed where it was sent: nobody claimed it.
        ({"claimed_at": None, "took": None, "done_at": at(0)}, 0, 0, 0, 0, 0),
        # Sent in the very transaction that claimed it.
        ({"claimed_at": at(-1), "took": None}, 0, 0, 0, 3, 0),
        # In a database of its own, after another of its key.
        ({"due_at": None, "forwarded": True, "ready_at": at(0.25)}, 0.25, 0.75, 1, 0, 1),
        # Kept by a lease.
        ({"due_at": at(90), "ready_at": at(0.25)}, 0.25, 0, 0.75, 1, 1),
    ],
)
def test_the_parts_add_up_to_the_whole(
    times: dict[str, Any], due: float, outbox: float, queue: float, batch: float, handler: float
) -> None:
    told = waited(**PLAIN | times)
    assert astuple(told) == pytest.approx((due, outbox, queue, batch, handler))
    end, begin = (PLAIN | times)["done_at"], PLAIN["sent_at"]
    assert sum(astuple(told)) == pytest.approx((end - begin).total_seconds())
