"""In Django a context's own database is another alias: its handlers' ORM writes commit there."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.boundary.django.senders import Query


@pytest.fixture
def apart(outside: Query, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gossips have the database `other` for their own."""
    from django.db import connections
    from ledger.contexts import gossip

    from boundary.django import runtime
    from boundary.django.project import forget

    monkeypatch.setattr(gossip, "database", "other")
    forget(setting="SAGA")
    runtime().migrate()
    runtime().subscribe()
    yield
    monkeypatch.undo()
    forget(setting="SAGA")
    with connections["other"].cursor() as cursor:
        cursor.execute("DROP SCHEMA saga CASCADE; DELETE FROM ledger_entry")
    connections.close_all()


@pytest.fixture
def trick(project: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the handler of this text do something too."""
    from ledger.contexts import TRICKS

    return lambda text, do: monkeypatch.setitem(TRICKS, text, do)


def publish(text: str) -> None:
    from django.db import transaction
    from ledger.words import Noted

    from boundary.django import publish

    with transaction.atomic():
        publish(Noted(text=text))


def state(outside: Query) -> Any:
    return outside("SELECT state, attempts FROM saga.inbox WHERE consumer = 'gossip'")


def there() -> list[str]:
    from ledger.models import Entry

    return list(Entry.objects.using("other").values_list("text", flat=True))


def write(work: Any) -> None:
    from django.db import connections
    from ledger.models import Entry

    assert work.connection is connections["other"]
    Entry.objects.using("other").create(text="told")


def test_its_orm_writes_and_its_delivery_commit_there(
    outside: Query, apart: None, trick: Callable[..., None]
) -> None:
    from boundary.django import runtime

    trick("news", write)
    publish("news")
    assert runtime().answer("gossip") == 1
    assert there() == ["told"]
    assert state(outside) == [("done", 0)]


def test_what_fails_leaves_nothing_there_and_home_sees_it(
    outside: Query, apart: None, trick: Callable[..., None]
) -> None:
    from boundary.django import runtime

    def fail(work: Any) -> None:
        write(work)
        raise KeyError("oh")

    trick("news", fail)
    publish("news")
    while runtime().answer("gossip"):
        pass
    assert there() == []
    assert state(outside) == [("parked", 3)]


def test_in_a_test_s_transactions_all_of_it_runs_and_is_undone(
    apart: None, trick: Callable[..., None]
) -> None:
    from django.db import transaction
    from ledger.words import Noted

    from boundary.django import publish
    from boundary.django.testing import run_due

    trick("news", write)
    with transaction.atomic(), transaction.atomic(using="other"):
        publish(Noted(text="news"))
        run_due()
        assert there() == ["told"]
        transaction.set_rollback(True)
        transaction.set_rollback(True, using="other")
    assert there() == []


def test_sagas_begin_at_home(apart: None) -> None:
    from django.db import transaction
    from ledger.words import Noted

    from boundary.django import publish
    from saga.errors import NoTransaction

    with (
        transaction.atomic(using="other"),
        pytest.raises(NoTransaction, match="kept in the database 'default'"),
    ):
        publish(Noted(text="news"), using="other")


def test_migrate_brings_its_tables_there_alone(apart: None) -> None:
    from django.core.management import call_command
    from django.db import connections

    with connections["other"].cursor() as cursor:
        cursor.execute("DROP SCHEMA saga CASCADE; DELETE FROM django_migrations WHERE app = 'saga'")
        call_command("migrate", database="other", verbosity=0)
        cursor.execute("SELECT to_regclass('saga.inbox') IS NOT NULL")
        assert cursor.fetchone() == (True,)


def test_an_alias_that_is_not_there_is_told_of(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.contexts import gossip

    from boundary.django.checks import check_definitions

    monkeypatch.setattr(gossip, "database", "nowhere")
    [error] = check_definitions()
    assert error.id == "saga.E009"
    assert "'nowhere'" in error.msg
