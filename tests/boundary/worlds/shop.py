"""A shop whose orders end in every way: completed, compensated, stuck, and waiting for someone."""

from datetime import timedelta

from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import Command, Event, Parallel, Rejected, Retry, Saga, Step


class Order(BaseModel):
    number: str
    cents: int = 100
    gift: bool = False


class Reserve(Command, kind="stock.reserve"):
    number: str


class Release(Command, kind="stock.release"):
    number: str


class Reserved(Event, kind="stock.reserved"):
    number: str


class Packed(Event, kind="packing.packed"):
    number: str


class Wrap(Command, kind="packing.wrap"):
    number: str


class Note(Command, kind="letters.note"):
    number: str


class Charge(Command, kind="payments.charge"):
    number: str
    cents: int


class Closed(Event, kind="shop.closed"):
    day: str


stock = Context("stock")
packing = Context("packing")
letters = Context("letters")
payments = Context("payments")


@stock.handles(Reserve, emits=(Reserved,))
def reserve(command: Reserve, work: Work) -> None:
    work.publish(Reserved(number=command.number))


@stock.handles(Release)
def release(command: Release, work: Work) -> None:
    pass


@packing.reacts_to(Reserved, emits=(Packed,))
def pack(event: Reserved, work: Work) -> None:
    work.publish(Packed(number=event.number))


@packing.handles(Wrap)
def wrap(command: Wrap, work: Work) -> None:
    pass


@packing.reacts_to(Closed)
def rest(event: Closed, work: Work) -> None:
    pass


@letters.handles(Note)
def note(command: Note, work: Work) -> None:
    pass


@payments.handles(Charge, retry=Retry(attempts=2, backoff=timedelta(0)))
def charge(command: Charge, work: Work) -> None:
    if command.cents == 13:
        raise RuntimeError("the bank speaks\nno known language")
    if command.cents > 1000:
        raise Rejected("over the limit")


CHECKOUT = Saga(
    name="checkout",
    data=Order,
    key=lambda order: order.number,
    steps=(
        Step(
            "stock",
            lambda order: Reserve(number=order.number),
            until=Packed,
            compensation=lambda order: Release(number=order.number),
        ),
        Parallel(
            Step("wrapping", lambda order: Wrap(number=order.number) if order.gift else None),
            Step("note", lambda order: Note(number=order.number)),
        ),
        Step("payment", lambda order: Charge(number=order.number, cents=order.cents), pivot=True),
    ),
)

SAGAS = (CHECKOUT,)
CONTEXTS = (stock, packing, letters, payments)

number = 1


def make() -> Runtime:
    return Runtime(sagas=SAGAS, contexts=CONTEXTS)


def make_nothing() -> None:
    pass


def make_trouble() -> Runtime:
    raise KeyError("no such shop")
