"""Workers come and go, and not all of them know everything."""

from typing import Any

import pytest

from tests.scenarios import newer_worker
from tests.scenarios.app import DELIVERED, Order

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)

UNREAD = "cannot be read here: stock.reserved: field place: Field required"


def test_what_the_old_release_does_not_know_waits_for_the_new_one(shop: Any) -> None:
    shop.start_worker("old_worker")
    shop.place(*(Order(number=n) for n in range(1, 9)))
    shop.wait_until(
        lambda: shop.count("inbox", "last_error LIKE 'no handler for shipping.dispatch%%'") == 8,
        "all orders to wait for a release that dispatches",
    )
    assert shop.statuses() == {"running": 8}
    assert shop.count("inbox", "state = 'parked'") == 0

    shop.start_worker("worker")  # and the old one goes on beside it
    shop.wait_until_over()
    assert shop.statuses() == {"completed": 8}
    shop.check_books(dict.fromkeys(range(1, 9), DELIVERED))


def test_one_release_beside_the_next(shop: Any) -> None:
    """What one cannot read waits for the other; what it does not know it neither minds nor loses."""
    now = newer_worker.make_runtime(shop.settings, "all")
    now.subscribe()  # as a deploy does, whose contexts run in workers of their own
    now.close()
    stock = shop.start_worker("old_stock_worker", processes=1)
    shop.start_worker("newer_worker", processes=1, PART="shipping")
    shop.start(newer_worker.ORDER, *(newer_worker.Order(number=n, note="x") for n in range(1, 5)))
    shop.wait_until(
        lambda: shop.count("inbox", f"state = 'pending' AND last_error = '{UNREAD}'") == 4,
        "what is reserved to wait for a shipping that can read it",
    )
    assert shop.statuses() == {"running": 4}
    assert shop.count("inbox", "state = 'parked'") == 0

    shop.start_worker("worker", processes=1)  # the whole release before
    shop.wait_until_over()
    assert shop.statuses() == {"completed": 4}
    stock.kill()

    # The next release's stock tells more than the shipping of the release before knows.
    shop.start_worker("newer_worker", processes=1, PART="stock")
    shop.start(newer_worker.ORDER, *(newer_worker.Order(number=n, note="x") for n in range(5, 13)))
    shop.wait_until_over()
    assert shop.statuses() == {"completed": 12}
    assert shop.count("saga", "data ->> 'note' = 'x'") == 12
    shop.check_books(dict.fromkeys(range(1, 13), DELIVERED))
