"""Orders that end well, and orders that are taken back."""

from typing import Any

from tests.scenarios.app import DECLINED, DELIVERED, SOLD_OUT, UNDELIVERABLE, Order


def test_an_order_is_packed_paid_and_sent(shop: Any) -> None:
    shop.start_worker()
    (id,) = shop.place(Order(number=1))
    shop.wait_until_over()
    assert shop.status(id) == "completed"
    shop.check_books({1: DELIVERED})


def test_orders_of_all_kinds_end_as_they_should(shop: Any) -> None:
    shop.start_worker()
    delivered, gift, declined, undeliverable, sold_out = shop.place(
        Order(number=1),
        Order(number=2, gift=True),
        Order(number=3, card="declined"),
        Order(number=4, address="unknown"),
        Order(number=-5),
    )
    shop.wait_until_over()

    assert shop.status(delivered) == shop.status(gift) == "completed"

    assert shop.status(declined) == "compensated"
    assert shop.reason(declined) == "step payment: the card was declined"

    assert shop.status(undeliverable) == "compensated"
    assert shop.reason(undeliverable) == "step dispatch: nobody lives there"

    assert shop.status(sold_out) == "compensated"
    assert shop.reason(sold_out) == "step goods: stock.sold_out: there is none left"

    shop.check_books(
        {
            1: DELIVERED,
            2: (*sorted([*DELIVERED, "wrapped"]),),
            3: DECLINED,
            4: UNDELIVERABLE,
            -5: SOLD_OUT,
        }
    )


def test_an_order_that_is_placed_twice_is_delivered_once(shop: Any) -> None:
    shop.start_worker()
    first = shop.place(Order(number=1))
    assert shop.place(Order(number=1)) == first
    shop.wait_until_over()
    assert shop.place(Order(number=1)) == first
    shop.check_books({1: DELIVERED})


def test_an_order_with_a_card_that_breaks_the_till_stands_stuck_and_says_why(shop: Any) -> None:
    shop.start_worker()
    torn, good = shop.place(Order(number=1, card="torn"), Order(number=2))
    shop.wait_until(lambda: shop.status(torn) == "stuck", "the torn card to stop its order")
    shop.wait_until_over()
    assert shop.status(good) == "completed"
    assert shop.reason(torn) == (
        "step payment: payments.charge is parked at payments: ValueError: the card cannot be read"
    )
    # Nothing is undone behind the owner's back, and the failing charge left no trace.
    assert shop.entries(1) == ("planned", "reserved")
    assert shop.entries(2) == DELIVERED


def test_orders_that_were_placed_before_any_worker_ever_ran_are_delivered(shop: Any) -> None:
    # Nobody has subscribed to anything yet, and the doorbells are long forgotten.
    shop.place(*(Order(number=n) for n in range(1, 11)))
    assert shop.count("subscription") == 0
    shop.start_worker()
    shop.wait_until_over()
    shop.check_books(dict.fromkeys(range(1, 11), DELIVERED))
