"""The warehouse and the till.  They know each other's events, and no saga."""

from django.conf import settings
from django.db.models import F

from examples.django_shop.shop.messages import Charge, Paid, PutBack, Reserve, Shipped
from examples.django_shop.shop.models import Order, Payment, Stock
from internals import Context, Work
from saga import Rejected, Retry

warehouse = Context("warehouse")
till = Context("till")

#: Cents that a card is good for.
LIMIT = 500_00


@warehouse.handles(Reserve)
def reserve(command: Reserve, work: Work) -> None:
    """Take the goods off the shelf, or say that there are not enough."""
    enough = Stock.objects.filter(article=command.article, left__gte=command.quantity)
    if not enough.update(left=F("left") - command.quantity):
        raise Rejected(f"not enough {command.article} left")


@warehouse.handles(PutBack)
def put_back(command: PutBack, work: Work) -> None:
    """Undo a reservation."""
    Stock.objects.filter(article=command.article).update(left=F("left") + command.quantity)


@till.handles(Charge, emits=(Paid,), retry=Retry(attempts=1))
def charge(command: Charge, work: Work) -> None:
    """Take the money."""
    if settings.SHOP_BUG.exists():
        raise ZeroDivisionError("the till divides by the number of coupons")
    if command.cents > LIMIT:
        raise Rejected("over the limit of the card")
    Payment.objects.create(order_id=command.order, cents=command.cents)
    work.publish(Paid(order=command.order))


@warehouse.reacts_to(Paid, emits=(Shipped,))
def ship(event: Paid, work: Work) -> None:
    """Send the goods once they are paid for."""
    Order.objects.filter(number=event.order).update(shipped=True)
    work.publish(Shipped(order=event.order))
