"""The checkout: goods reserved, paid for and shipped, or nothing of it."""

from datetime import timedelta

from pydantic import BaseModel

from examples.django_shop.shop.messages import Charge, PutBack, Reserve, Shipped
from saga import Saga, Step


class Checkout(BaseModel):
    """What an order is about."""

    number: str
    article: str
    quantity: int
    cents: int


CHECKOUT = Saga(
    name="checkout",
    data=Checkout,
    key=lambda order: order.number,
    deadline=timedelta(hours=1),
    steps=(
        Step(
            "goods",
            lambda order: Reserve(
                order=order.number, article=order.article, quantity=order.quantity
            ),
            compensation=lambda order: PutBack(article=order.article, quantity=order.quantity),
        ),
        Step(
            "payment",
            lambda order: Charge(order=order.number, cents=order.cents),
            until=Shipped,
            pivot=True,
        ),
    ),
)
