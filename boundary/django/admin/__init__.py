"""Admin: sagas, parked deliveries and the audit, to look at and to act on."""

from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from boundary.django.admin import pages
from boundary.django.admin.actions import (
    PARKED_ACTS,
    SAGA_ACTS,
    ReasonForm,
    act_on,
    act_on_parked,
    may,
    preview,
)
from boundary.django.admin.filters import CappedPaginator, NameFilter, sought
from boundary.django.admin.html import pill
from boundary.django.models import Act, Delivery, Saga
from boundary.operations.queries.reference import as_uuid
from boundary.operations.queries.time_format import duration


class ReadOnlyAdmin(admin.ModelAdmin):
    """A list whose rows nobody adds, changes or deletes."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    # To count the rows of each filter takes seconds too; Django before 5.0 does not.
    show_facets = admin.ShowFacets.NEVER if hasattr(admin, "ShowFacets") else None

    class Media:
        css = {"all": ("saga/admin.css",)}  # noqa: RUF012 - as Django has it

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def page(
        self, request: HttpRequest, template: str, title: str, **context: Any
    ) -> TemplateResponse:
        """Return a page of the admin."""
        return TemplateResponse(
            request,
            f"saga_admin/{template}.html",
            {
                **self.admin_site.each_context(request),
                "title": title,
                "opts": self.opts,
                "media": self.media,
                "list_url": reverse(f"admin:saga_{self.opts.model_name}_changelist"),
                **context,
            },
        )

    def require(self, request: HttpRequest, allowed: bool) -> None:
        """Raise `PermissionDenied` unless the user may look and the act is allowed."""
        if not (self.has_view_permission(request) and allowed):
            raise PermissionDenied


@admin.register(Saga)
class SagaAdmin(ReadOnlyAdmin):
    """Sagas: the list, the page of each, and acts on them."""

    list_display = ("shown_status", "reference", "started_at", "took", "shown_reason")
    list_display_links = ("reference",)
    list_filter = ("status", NameFilter)
    search_fields = ("key",)
    search_help_text = "A business key, name:key, an id, or the beginning of a key and *."
    actions = ("replay_selected", "cancel_selected")

    @admin.display(description="status", ordering="status")
    def shown_status(self, saga: Saga) -> SafeString:
        """Return the status in its colour."""
        return pill(saga.status)

    @admin.display(description="saga")
    def reference(self, saga: Saga) -> str:
        """Return the business key after the name, or the id of one that has none."""
        return str(saga)

    @admin.display(description="took")
    def took(self, saga: Saga) -> str:
        """Return how long it took."""
        return duration(saga.finished_at - saga.started_at) if saga.finished_at else ""

    @admin.display(description="reason")
    def shown_reason(self, saga: Saga) -> SafeString:
        """Return the reason, in one line that the style sheet cuts."""
        return format_html('<span class="saga-cut" title="{0}">{0}</span>', saga.reason or "")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return (queryset.filter(sought(search_term)) if search_term.strip() else queryset), False

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether the user may replay; names the permission for the action below."""
        return may(request, "replay")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel."""
        return may(request, "cancel")

    @admin.action(description="Replay selected sagas", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Replay those that are selected, after asking for the reason."""
        return self._many(request, queryset, "replay")

    @admin.action(description="Cancel selected sagas", permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Cancel those that are selected, after asking for the reason."""
        return self._many(request, queryset, "cancel")

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "<uuid:id>/act/<str:name>/",
            self.admin_site.admin_view(self.act_view),
            name="saga_saga_act",
        )
        return [own, *super().get_urls()]

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        """Show one saga."""
        self.require(request, True)
        context = pages.saga_page(self._id(object_id), payload=may(request, "see", "payload"))
        if context is None:
            raise Http404(f"no saga has the id {object_id}")
        detail = context["detail"]
        status = detail.saga.status.value
        offered = {"replay": status == "stuck", "skip": bool(context["failed_steps"])}
        offered["cancel"] = not detail.saga.status.final
        acts = [name for name, fits in offered.items() if fits and may(request, name)]
        title = f"{detail.saga.name} {detail.saga.key or detail.saga.id}"
        return self.page(request, "saga", title, acts=acts, **context)

    def act_view(self, request: HttpRequest, id: UUID, name: str) -> HttpResponse:
        """Ask for the reason of an act on one saga, and do it."""
        act = SAGA_ACTS.get(name)
        if act is None:
            raise Http404(name)
        self.require(request, may(request, name))
        context = pages.saga_page(id, payload=False)
        if context is None:
            raise Http404(f"no saga has the id {id}")
        steps = [step.name for step in context["detail"].steps]
        steps = context["failed_steps"] if name == "skip" else steps
        options = {} if act.form is ReasonForm else {"steps": steps}
        form = act.form(request.POST or None, **options)
        if "data" in form.fields and not may(request, "see", "payload"):
            del form.fields["data"]  # what may not be seen is not to be guessed at either
        page = reverse("admin:saga_saga_change", args=[id])
        would = ""
        if request.method == "POST" and form.is_valid():
            if "preview" not in request.POST:
                act_on(request, [id], act, form.cleaned_data)
                return HttpResponseRedirect(page)
            would = preview(request, id, act, form.cleaned_data)
        saga = context["detail"].saga
        return self.page(
            request,
            "act",
            f"{name.capitalize()} {saga.reference}",
            form=form,
            act=act,
            sagas=[saga],
            back=page,
            preview=would,
            single=True,
        )

    def _many(
        self, request: HttpRequest, queryset: QuerySet[Any], name: str
    ) -> HttpResponse | None:
        act = SAGA_ACTS[name]
        ids = list(queryset.values_list("pk", flat=True))
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            act_on(request, ids, act, form.cleaned_data)
            return None
        return self.page(
            request,
            "act",
            f"{name.capitalize()} {len(ids)} saga{'s' * (len(ids) != 1)}",
            form=form,
            act=act,
            sagas=list(queryset),
            selected=ids,
            action=f"{name}_selected",
            back=reverse("admin:saga_saga_changelist"),
        )

    def _id(self, text: str) -> UUID:
        id = as_uuid(text)
        if id is None:
            raise Http404(text)
        return id


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
        url = reverse("admin:saga_saga_change", args=[saga.pk])
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
            url, id = reverse("admin:saga_saga_change", args=[act.saga_id]), act.saga_id
        elif act.message_id is not None:
            url, id = reverse("admin:saga_delivery_change", args=[act.message_id]), act.message_id
        else:
            return ""
        return format_html('<a href="{}">{}</a>', url, id)
