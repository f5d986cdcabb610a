"""A release from before orders were dispatched: its shipping has no handler for that."""

from boundary import Settings
from internals import Context
from tests.scenarios.app import (
    GoodsReleased,
    GoodsReserved,
    ShipmentPlanned,
    cancel,
    make_runtime,
    payments,
    plan,
)
from tests.scenarios.app import stock as goods

shipping = Context("shipping")
shipping.reacts_to(GoodsReserved, emits=(ShipmentPlanned,))(plan)
shipping.reacts_to(GoodsReleased)(cancel)

broker = make_runtime(Settings(), (goods, payments, shipping)).worker()
