"""Saga admin: the list of sagas, the page of each, and the buttons of actions."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from boundary.django import pages
from boundary.django.admin.actions import (
    SAGA_ACTS,
    ReasonForm,
    act_on,
    may,
    preview,
)
from boundary.django.admin.filters import NameFilter, sought
from boundary.django.admin.read_only import ReadOnlyAdmin
from boundary.django.html import pill
from boundary.django.models import SagaRecord
from boundary.queries.reference import as_uuid
from boundary.queries.time_format import duration


@admin.register(SagaRecord)
class SagaAdmin(ReadOnlyAdmin):
    """Sagas: the list, the page of each, and acts on them."""

    list_display = ("shown_status", "reference", "started_at", "took", "shown_reason")
    list_display_links = ("reference",)
    list_filter = ("status", NameFilter)
    search_fields = ("key",)
    search_help_text = "A business key, name:key, an id, or the beginning of a key and *."
    actions = ("replay_selected", "cancel_selected")

    @admin.display(description="status", ordering="status")
    def shown_status(self, saga: SagaRecord) -> SafeString:
        """Return the status in its colour."""
        return pill(saga.status)

    @admin.display(description="saga")
    def reference(self, saga: SagaRecord) -> str:
        """Return the business key after the name, or the id of one that has none."""
        return str(saga)

    @admin.display(description="took")
    def took(self, saga: SagaRecord) -> str:
        """Return how long it took."""
        return duration(saga.finished_at - saga.started_at) if saga.finished_at else ""

    @admin.display(description="reason")
    def shown_reason(self, saga: SagaRecord) -> SafeString:
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
            name="saga_sagarecord_act",
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
        page = reverse("admin:saga_sagarecord_change", args=[id])
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
            back=reverse("admin:saga_sagarecord_changelist"),
        )

    def _id(self, text: str) -> UUID:
        id = as_uuid(text)
        if id is None:
            raise Http404(text)
        return id
