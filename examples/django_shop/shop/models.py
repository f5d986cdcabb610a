"""What the shop keeps: orders, what is on the shelf, and what was paid."""

from django.db import models


class Stock(models.Model):
    """So many of an article are on the shelf."""

    article = models.TextField(primary_key=True)
    left = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.left} x {self.article}"


class Order(models.Model):
    """One order, as the customer gave it."""

    number = models.TextField(primary_key=True)
    article = models.TextField()
    quantity = models.IntegerField()
    cents = models.IntegerField()
    saga_id = models.UUIDField()
    shipped = models.BooleanField(default=False)

    def __str__(self) -> str:
        return str(self.number)


class Payment(models.Model):
    """What was taken for an order."""

    order = models.OneToOneField(Order, models.CASCADE, primary_key=True)
    cents = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.cents} for {self.order_id}"
