"""`USE_TZ = False`: Django's cursors give times without a zone, and the pages are there all the same."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.boundary.django.senders import Query


@pytest.fixture
def shanghai(clean: None) -> Iterator[None]:
    from django.test import override_settings

    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Shanghai"):
        yield


@pytest.fixture
def visitor(shanghai: None) -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    User.objects.create_superuser("ann", password="a")
    client = Client()
    assert client.login(username="ann", password="a")
    return client


def test_a_cursor_of_the_frameworks_gives_times_with_a_zone(shanghai: None) -> None:
    from datetime import UTC, datetime

    from django.db import connection

    from boundary.django.db.unit_of_work import DjangoUnitOfWork

    [(at,)] = DjangoUnitOfWork(connection).run("SELECT timestamptz '2026-10-25 00:30:00+00'", {})
    assert at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    with connection.cursor() as cursor:  # the host's own are as it wants them
        cursor.execute("SELECT timestamptz '2026-10-25 00:30:00+00'")
        assert cursor.fetchone()[0] == datetime(2026, 10, 25, 8, 30)


def test_the_pages_of_what_is_pending_and_of_what_failed(visitor: Any, outside: Query) -> None:
    from django.db import transaction
    from ledger.sagas import ASK, KEEP, Text

    from boundary.django import runtime, start

    with transaction.atomic():
        ids = [
            start(KEEP, Text(text="bug one")),
            start(KEEP, Text(text="two")),
            start(ASK, Text(text="three")),
        ]
    for _ in range(3):
        for name in ("ledger", "saga.keep", "saga.ask"):
            runtime().answer(name)
    with transaction.atomic():
        ids.append(start(KEEP, Text(text="four")))  # its first delivery is pending
    for id in ids:
        assert visitor.get(f"/admin/saga/sagarecord/{id}/change/").status_code == 200
    for model in ("sagarecord", "delivery", "act"):
        assert visitor.get(f"/admin/saga/{model}/").status_code == 200
    for (message,) in outside("SELECT id FROM saga.outbox"):
        assert visitor.get(f"/admin/saga/delivery/{message}/change/").status_code == 200
