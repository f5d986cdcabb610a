"""Two pages: a counter where an order is placed, and one that watches it until its end."""

from typing import Any
from uuid import uuid4

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render

from boundary.django import start
from boundary.django.models import SagaRecord
from examples.django_shop.shop.models import Order, Stock
from examples.django_shop.shop.sagas import CHECKOUT, Checkout

PRICE = 12_50


class OrderForm(forms.Form):
    """What is ordered."""

    article = forms.ModelChoiceField(Stock.objects.order_by("article"), empty_label=None)
    quantity = forms.IntegerField(min_value=1, max_value=100, initial=1)


def counter(request: HttpRequest) -> HttpResponse:
    """Take an order: it and its saga are committed together, or neither is."""
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(
            "order", place(form.cleaned_data["article"].pk, form.cleaned_data["quantity"])
        )
    orders = Order.objects.order_by("-pk")[:10]
    return render(request, "shop/counter.html", {"form": form, "orders": orders})


def place(article: str, quantity: int) -> str:
    """Write an order down, start its checkout, and return its number."""
    number = f"A-{uuid4().hex[:6]}"
    cents = quantity * PRICE
    with transaction.atomic():
        saga_id = start(
            CHECKOUT, Checkout(number=number, article=article, quantity=quantity, cents=cents)
        )
        Order.objects.create(
            number=number, article=article, quantity=quantity, cents=cents, saga_id=saga_id
        )
    return number


def order(request: HttpRequest, number: str) -> HttpResponse:
    """Watch an order."""
    return render(request, "shop/order.html", {"order": get_object_or_404(Order, pk=number)})


def status(request: HttpRequest, number: str) -> JsonResponse:
    """Say how far an order is, for the page that watches it."""
    found = get_object_or_404(Order, pk=number)
    saga = get_object_or_404(SagaRecord, pk=found.saga_id)
    # Read after the saga: what that says is over is in the order by then.
    found.refresh_from_db()
    told: dict[str, Any] = {
        "status": saga.status,
        "reason": saga.reason,
        "over": saga.finished_at is not None,
        "shipped": found.shipped,
    }
    return JsonResponse(told)
