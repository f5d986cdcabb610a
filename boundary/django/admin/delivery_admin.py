"""Delivery admin: parked deliveries, the page of each message, and acts on them."""

from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from boundary.django import pages
from boundary.django.admin.actions import (
    PARKED_ACTS,
    ReasonForm,
    act_on_parked,
    may,
)
from boundary.django.admin.read_only import ReadOnlyAdmin
from boundary.django.models import Delivery
from boundary.queries.reference import as_uuid


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Deliveries that failed for good and wait for a person."""

    list_display = ("kind", "consumer", "parked_at", "saga", "error")
    list_display_links = ("kind",)
    list_filter = ("consumer",)
    list_select_related = ("message", "message__saga")
    ordering = ("-done_at",)
    search_fields = ("message_id",)
    search_help_text = "A message's id or kind, or the id or business key of its saga."
    actions = ("retry_selected", "drop_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(state="parked")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        id = as_uuid(text)
        by_id = Q(message_id=id) | Q(message__saga_id=id)
        by_word = Q(message__kind=text) | Q(message__saga__key=text)
        return queryset.filter(by_word if id is None else by_id), False

    # With its attributes: before Django 5.2 one of them is the heading, which ticks all.
    @wraps(admin.ModelAdmin.action_checkbox)
    def action_checkbox(self, obj: Any) -> SafeString:
        """Return a checkbox that says which row it is; Django's says the message alone."""
        return format_html(
            '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">',
            ACTION_CHECKBOX_NAME,
            _row(obj.pk, obj.consumer),
            f"Select this object for an action - {obj}",
        )

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Act on the rows that are selected, and not on others of the same messages."""
        post = request.POST.copy()
        selected = [row.partition(":") for row in post.getlist(ACTION_CHECKBOX_NAME)]
        rows = [(id, consumer) for text, _, consumer in selected if (id := as_uuid(text))]
        if post.get("select_across", "0") in ("", "0"):
            fits = Q(pk__in=[])
            for consumer in {consumer for _, consumer in rows}:
                ids = [id for id, of in rows if of == consumer]
                fits |= Q(pk__in=ids, consumer=consumer) if consumer else Q(pk__in=ids)
            queryset = queryset.filter(fits)
        post.setlist(ACTION_CHECKBOX_NAME, [str(id) for id, _ in rows])
        request.POST = post
        return super().response_action(request, queryset)

    @admin.display(description="message", ordering="message__kind")
    def kind(self, delivery: Delivery) -> str:
        """Return what kind of message it is."""
        return str(delivery.message.kind)

    @admin.display(description="parked", ordering="done_at")
    def parked_at(self, delivery: Delivery) -> Any:
        """Return when it was given up."""
        return delivery.done_at

    @admin.display(description="saga")
    def saga(self, delivery: Delivery) -> SafeString | str:
        """Return the saga that it belongs to."""
        saga = delivery.message.saga
        if saga is None:
            return ""
        url = reverse("admin:saga_sagarecord_change", args=[saga.pk])
        return format_html('<a href="{}">{}</a>', url, saga)

    @admin.display(description="error")
    def error(self, delivery: Delivery) -> SafeString:
        """Return why it failed, in one line that the style sheet cuts."""
        return format_html(
            '<span class="saga-cut" title="{0}">{0}</span>', delivery.last_error or ""
        )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether the user may have messages delivered again."""
        return may(request, "retry", "delivery")

    def has_drop_permission(self, request: HttpRequest) -> bool:
        """Whether the user may drop messages."""
        return may(request, "drop", "delivery")

    @admin.action(description="Retry selected messages", permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Deliver those that are selected again, after asking for the reason."""
        return self._many(request, queryset, "retry")

    @admin.action(description="Drop selected messages", permissions=["drop"])
    def drop_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Give up those that are selected, after asking for the reason."""
        return self._many(request, queryset, "drop")

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "<uuid:id>/act/<str:name>/",
            self.admin_site.admin_view(self.act_view),
            name="saga_delivery_act",
        )
        return [own, *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Show one message with its deliveries, whatever became of them."""
        self.require(request, True)
        id = as_uuid(object_id)
        context = id and pages.message_page(id, payload=may(request, "see", "payload"))
        if not context:
            raise Http404(f"no message has the id {object_id}")
        acts = [name for name in PARKED_ACTS if may(request, name, "delivery")]
        offered = acts if context["parked"] else []
        return self.page(request, "message", context["detail"].kind, acts=offered, **context)

    def act_view(self, request: HttpRequest, id: UUID, name: str) -> HttpResponse:
        """Ask for the reason of an act on one message, and do it."""
        if name not in PARKED_ACTS:
            raise Http404(name)
        self.require(request, may(request, name, "delivery"))
        form = ReasonForm(request.POST or None)
        page = reverse("admin:saga_delivery_change", args=[id])
        if request.method == "POST" and form.is_valid():
            act_on_parked(request, [(id, None)], name, form.cleaned_data["reason"])
            return HttpResponseRedirect(page)
        title = f"{name.capitalize()} message {id}"
        return self.page(
            request,
            "act",
            title,
            form=form,
            messages_acted=[(id, None)],
            back=page,
            act={"name": name},
        )

    def _many(
        self, request: HttpRequest, queryset: QuerySet[Any], name: str
    ) -> HttpResponse | None:
        rows = list(queryset.values_list("pk", "consumer"))
        count = len({id for id, _ in rows})
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            act_on_parked(request, rows, name, form.cleaned_data["reason"])
            return None
        return self.page(
            request,
            "act",
            f"{name.capitalize()} {count} message{'s' * (count != 1)}",
            form=form,
            act={"name": name},
            messages_acted=rows,
            selected=[_row(id, consumer) for id, consumer in rows],
            action=f"{name}_selected",
            back=reverse("admin:saga_delivery_changelist"),
        )


def _row(id: UUID, consumer: str) -> str:
    return f"{id}:{consumer}"
