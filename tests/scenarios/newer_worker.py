"""The next release: what is reserved has a place, and an order a note.

Its shipping cannot do without the place, which the release before does not tell.  PART says which
contexts run: those of now, or only one of them.
"""

import os

from boundary import Runtime, Settings
from internals import Context, Work
from saga import Event, Saga
from tests.scenarios import app
from tests.scenarios.app import (
    ReserveGoods,
    ShipmentPlanned,
    cancel,
    note,
    payments,
    take_from_shelf,
)
from tests.scenarios.app import dispatch as send


class Order(app.Order):
    note: str | None = None


class GoodsReserved(Event, kind="stock.reserved"):
    number: int
    place: str


ORDER = Saga(name="order", data=Order, key=app.ORDER.key, steps=app.ORDER.steps)

stock = Context("stock")
shipping = Context("shipping")


@stock.handles(ReserveGoods, emits=(GoodsReserved, app.SoldOut))
def reserve(command: ReserveGoods, work: Work) -> None:
    note(work, command.number, "reserved")
    take_from_shelf(work, 1)
    work.publish(GoodsReserved(number=command.number, place="A 7"))


stock.handles(app.ReleaseGoods, emits=(app.GoodsReleased,))(app.release)
stock.handles(app.WrapGift)(app.wrap)


@shipping.reacts_to(GoodsReserved, emits=(ShipmentPlanned,))
def plan(event: GoodsReserved, work: Work) -> None:
    assert event.place
    note(work, event.number, "planned")
    work.publish(ShipmentPlanned(number=event.number))


shipping.reacts_to(app.GoodsReleased)(cancel)
shipping.handles(app.Dispatch)(send)

PARTS = {
    "shipping": (shipping, payments),
    "stock": (stock,),
    "all": (stock, shipping, payments),
}


def make_runtime(settings: Settings, part: str) -> Runtime:
    """Wire the shop as it is now."""
    return Runtime(
        sagas=[ORDER],
        contexts=PARTS[part],
        settings=settings,
        execution_options={"schema_translate_map": {"shop": settings.db_schema}},
    )


if "PART" in os.environ:
    broker = make_runtime(Settings(), os.environ["PART"]).worker()
