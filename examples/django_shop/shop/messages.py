"""What is said in the shop."""

from saga import Command, Event


class Reserve(Command, kind="warehouse.reserve"):
    """Take the goods off the shelf."""

    order: str
    article: str
    quantity: int


class PutBack(Command, kind="warehouse.put_back"):
    """Put them back."""

    article: str
    quantity: int


class Charge(Command, kind="till.charge"):
    """Take the money."""

    order: str
    cents: int


class Paid(Event, kind="till.paid"):
    """The money is there; the warehouse ships when it hears this."""

    order: str


class Shipped(Event, kind="warehouse.shipped"):
    """The goods have left."""

    order: str
