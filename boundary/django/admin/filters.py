"""Filters: lists of the admin that stay fast with millions of rows."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from boundary.django.conf import schema
from boundary.django.project import runtime
from boundary.operations import saga_names
from boundary.queries.reference import as_uuid

#: Rows that are counted, and may be paged through, at most.
MOST = 10_000


class CappedPaginator(Paginator):
    """Counts so many rows and no more: to count all of a large table takes seconds."""

    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[:MOST].count())


class NameFilter(admin.SimpleListFilter):
    """Sagas of one name."""

    title = "name"
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(name=self.value()) if self.value() else queryset


def names() -> list[str]:
    """Return the names that sagas have, without looking at all of them."""
    with runtime().django.reading() as unit:
        return saga_names(unit, schema())


def sought(term: str) -> Q:
    """Return what finds sagas by id, business key, ``name:key``, or a key's beginning and ``*``."""
    text = term.strip()
    id = as_uuid(text)
    if id is not None:
        return Q(pk=id) | Q(name__in=names(), key=text)
    if text.endswith("*"):
        return Q(key__startswith=text[:-1])
    name, colon, key = text.partition(":")
    found = Q(name__in=names(), key=text)
    return found | Q(name=name, key=key) if colon else found
