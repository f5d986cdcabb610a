from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path
from ledger.models import Entry

#: What the view sends, in the transaction of its request.
SEND: list[Any] = []


def raising(request: HttpRequest) -> HttpResponse:
    Entry.objects.create(text="of a request")
    for send in SEND:
        send()
    if request.GET.get("well"):
        return HttpResponse("well")
    raise RuntimeError("the view fails after all")


urlpatterns = [path("raising/", raising), path("admin/", admin.site.urls)]
