"""Read-only: how the admin lists and shows what nobody adds, changes or deletes."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from boundary.django.admin.filters import CappedPaginator


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
