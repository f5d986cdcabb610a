"""A small shop: an order is packed, paid and sent, or everything is taken back.

The saga at the boundary orders goods, payment and dispatch.  Inside, shipping listens to stock: it
plans a shipment for what is reserved and cancels it for what is released, and the saga waits for
the plan without knowing who makes it.

Every effect is a line in a ledger that has no constraint, so one that happened twice shows.
"""

from collections.abc import Mapping
from datetime import timedelta

from pydantic import BaseModel
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, insert, update
from sqlalchemy.schema import CreateTable

from boundary import Runtime, Settings
from internals import Context, Work
from saga import Command, Event, Parallel, Rejected, Retry, Saga, Step

STOCK = 1_000

tables = MetaData(schema="shop")
ledger = Table("ledger", tables, Column("number", Integer), Column("what", Text))
shelf = Table("shelf", tables, Column("left", Integer))


class Order(BaseModel):
    number: int
    card: str = "good"
    address: str = "Main Street"
    gift: bool = False


class ReserveGoods(Command, kind="stock.reserve"):
    number: int


class ReleaseGoods(Command, kind="stock.release"):
    number: int


class GoodsReserved(Event, kind="stock.reserved"):
    number: int


class GoodsReleased(Event, kind="stock.released"):
    number: int


class SoldOut(Event, kind="stock.sold_out"):
    number: int
    reason: str


class ShipmentPlanned(Event, kind="shipping.planned"):
    number: int


class WrapGift(Command, kind="stock.wrap"):
    number: int


class ChargeCard(Command, kind="payments.charge"):
    number: int
    card: str


class RefundCard(Command, kind="payments.refund"):
    number: int


class Dispatch(Command, kind="shipping.dispatch"):
    number: int
    address: str


ORDER = Saga(
    name="order",
    data=Order,
    key=lambda order: str(order.number),
    steps=(
        Step(
            "goods",
            lambda order: ReserveGoods(number=order.number),
            until=ShipmentPlanned,
            rejected_by=SoldOut,
            compensation=lambda order: ReleaseGoods(number=order.number),
        ),
        Parallel(
            Step("gift", lambda order: WrapGift(number=order.number) if order.gift else None),
            Step(
                "payment",
                lambda order: ChargeCard(number=order.number, card=order.card),
                compensation=lambda order: RefundCard(number=order.number),
            ),
        ),
        Step(
            "dispatch",
            lambda order: Dispatch(number=order.number, address=order.address),
            pivot=True,
        ),
    ),
)


def note(work: Work, number: int, what: str) -> None:
    """Write a line to the ledger."""
    work.connection.execute(insert(ledger).values(number=number, what=what))


def take_from_shelf(work: Work, count: int) -> None:
    """One row that every order writes: batches meet here."""
    work.connection.execute(update(shelf).values(left=shelf.c.left - count))


stock = Context("stock")
payments = Context("payments")
shipping = Context("shipping")


@stock.handles(ReserveGoods, emits=(GoodsReserved, SoldOut))
def reserve(command: ReserveGoods, work: Work) -> None:
    if command.number < 0:
        work.publish(SoldOut(number=command.number, reason="there is none left"))
        return
    note(work, command.number, "reserved")
    take_from_shelf(work, 1)
    work.publish(GoodsReserved(number=command.number))


@stock.handles(ReleaseGoods, emits=(GoodsReleased,))
def release(command: ReleaseGoods, work: Work) -> None:
    note(work, command.number, "released")
    take_from_shelf(work, -1)
    work.publish(GoodsReleased(number=command.number))


@stock.handles(WrapGift)
def wrap(command: WrapGift, work: Work) -> None:
    note(work, command.number, "wrapped")


@shipping.reacts_to(GoodsReserved, emits=(ShipmentPlanned,))
def plan(event: GoodsReserved, work: Work) -> None:
    note(work, event.number, "planned")
    work.publish(ShipmentPlanned(number=event.number))


@shipping.reacts_to(GoodsReleased)
def cancel(event: GoodsReleased, work: Work) -> None:
    note(work, event.number, "cancelled")


@payments.handles(ChargeCard, retry=Retry(attempts=2, backoff=timedelta(milliseconds=10)))
def charge(command: ChargeCard, work: Work) -> None:
    note(work, command.number, "charged")
    if command.card == "declined":
        raise Rejected("the card was declined")
    if command.card == "torn":
        raise ValueError("the card cannot be read")


@payments.handles(RefundCard)
def refund(command: RefundCard, work: Work) -> None:
    note(work, command.number, "refunded")


@shipping.handles(Dispatch)
def dispatch(command: Dispatch, work: Work) -> None:
    if command.address == "unknown":
        raise Rejected("nobody lives there")
    note(work, command.number, "dispatched")


#: What the ledger holds for an order when all is over.
DELIVERED = ("charged", "dispatched", "planned", "reserved")
DECLINED = ("cancelled", "planned", "released", "reserved")
UNDELIVERABLE = ("cancelled", "charged", "planned", "refunded", "released", "reserved")
SOLD_OUT = ()

CONTEXTS = (stock, payments, shipping)


def make_runtime(settings: Settings, contexts: tuple[Context, ...] = CONTEXTS) -> Runtime:
    """Wire the shop; its tables are in the framework's schema, which the test drops."""
    return Runtime(
        sagas=[ORDER],
        contexts=contexts,
        settings=settings,
        execution_options={"schema_translate_map": _places(settings)},
    )


def create_tables(engine: Engine, settings: Settings) -> None:
    """Make the shop's tables and fill the shelf."""
    with engine.execution_options(schema_translate_map=_places(settings)).begin() as connection:
        connection.execute(CreateTable(ledger))
        connection.execute(CreateTable(shelf))
        _fill(connection)


def _fill(connection: Connection) -> None:
    connection.execute(insert(shelf).values(left=STOCK))


def _places(settings: Settings) -> Mapping[str | None, str | None]:
    return {"shop": settings.db_schema}
