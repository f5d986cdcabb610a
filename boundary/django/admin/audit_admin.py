"""Audit admin: what operators did, to look at; each row is one `Act`.  Actions are in `actions.py`."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from boundary.django.admin.read_only import ReadOnlyAdmin
from boundary.django.models import Act
from boundary.queries.reference import as_uuid


@admin.register(Act)
class ActAdmin(ReadOnlyAdmin):
    """What was done by hand, the last act first."""

    list_display = ("at", "actor", "act", "saga", "reason")
    list_display_links = None
    search_fields = ("actor",)
    search_help_text = "Who did it, or the id of a saga or message."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        id = as_uuid(text)
        if id is not None:
            return queryset.filter(Q(saga_id=id) | Q(message_id=id)), False
        return (queryset.filter(actor=text) if text else queryset), False

    @admin.display(description="saga or message")
    def saga(self, act: Act) -> SafeString | str:
        """Return what it was done to."""
        if act.saga_id is not None:
            url, id = reverse("admin:saga_sagarecord_change", args=[act.saga_id]), act.saga_id
        elif act.message_id is not None:
            url, id = reverse("admin:saga_delivery_change", args=[act.message_id]), act.message_id
        else:
            return ""
        return format_html('<a href="{}">{}</a>', url, id)
