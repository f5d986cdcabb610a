"""Workers come and go, and not all of them know everything."""

from typing import Any

import pytest
from app import DELIVERED, Order

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)


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
