"""Testing: tell a saga as a story, without a database, a broker or a clock.

    given(BOOK_TRIP, trip)
        .expect(ReserveFlight(trip_id=trip.id, seats=2))
        .when(SeatingAssigned(seats=("1A", "1B")))
        .expect(BookHotel, RentCar)
        .rejected("hotel", "no rooms")
        .done("car")
        .expect(CancelCar)

A story never changes: each word returns a new one, so that two may share their beginning.
AssertionError says what is not as expected; what the saga's functions raise comes through.
"""

from typing import TypeVar
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel

from saga.decide import start_message
from saga.definition import Saga
from saga.state import SagaState
from saga.testing.story import Story

__all__ = ["Story", "given"]

D = TypeVar("D", bound=BaseModel)


def given(saga: Saga[D], data: D) -> Story[D]:
    """Start a saga with this data and return its story, which a test goes on to tell.

    Nothing runs: no database, no handler and no clock.

    Args:
        saga: The definition.
        data: What the saga begins with.

    Raises:
        AssertionError: From a word of the story that is not so; it names the difference.

    Example:
        ```python
        from pydantic import BaseModel

        from saga import Command, Saga, Step
        from saga.testing import given

        class Order(BaseModel):
            number: str

        class Reserve(Command, kind="stock.reserve"):
            order: str

        class Release(Command, kind="stock.release"):
            order: str

        class Charge(Command, kind="payments.charge"):
            order: str

        CHECKOUT = Saga("checkout", Order, (
            Step("stock", lambda order: Reserve(order=order.number),
                 compensation=lambda order: Release(order=order.number)),
            Step("payment", lambda order: Charge(order=order.number)),
        ))

        story = given(CHECKOUT, Order(number="A-1")).expect(Reserve(order="A-1")).done("stock")
        story.expect(Charge).done("payment").expect_completed()
        story.rejected("payment", "over the limit").expect(Release).done("stock").expect_compensated()
        ```
    """
    id = uuid5(NAMESPACE_URL, f"story of {saga.name}")  # the same in every run
    return Story(saga, SagaState(id, data))._hear(start_message(saga, id, data))
