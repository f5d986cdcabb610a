"""The tables come by `manage.py migrate` or `manage.py saga migrate`, in either order."""

from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture
def empty(project: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new database, which the alias `default` names for as long as the test runs."""
    from django.db import connections

    from tests.boundary.django.django_project import create_databases, drop_databases, environment

    name = f"saga_test_{uuid4().hex[:12]}"
    url = environment()["DJT_DATABASE_URL"]
    create_databases(url, {"x": name})
    connections["default"].close()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", name)
    yield name
    connections["default"].close()
    drop_databases(url, {"x": name})


def tables(alias: str = "default") -> set[str]:
    from django.db import connections

    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'saga'")
        return {name for (name,) in cursor.fetchall()}


ALL = {
    "saga",
    "outbox",
    "inbox",
    "subscription",
    "audit",
    "settling",
    "backfill",
    "saga_alembic_version",
}


def migrate(*arguments: str) -> None:
    from django.core.management import call_command

    call_command("migrate", *arguments, verbosity=0)


def alembic() -> None:
    from boundary.django import runtime

    runtime().migrate()


def test_djangos_migrate_brings_them_and_the_subscriptions(empty: str) -> None:
    from django.db import connection

    migrate()
    assert tables() == ALL
    with connection.cursor() as cursor:
        cursor.execute("SELECT kind, consumer FROM saga.subscription")
        assert cursor.fetchall() == [("ledger.noted", "gossip")]


@pytest.mark.parametrize("order", [(migrate, alembic), (alembic, migrate)])
def test_both_ways_work_in_either_order(empty: str, order: Any) -> None:
    for bring in order:
        bring()
        assert tables() == ALL


def test_they_can_be_taken_away_and_brought_again(empty: str) -> None:
    migrate()
    migrate("saga", "zero")
    assert tables() == {"saga_alembic_version"}
    migrate("saga")
    assert tables() == ALL


def test_another_database_gets_nothing(project: None) -> None:
    assert tables("other") == set()


def test_the_newest_django_migration_is_the_newest_of_alembic(project: None) -> None:
    from django.db.migrations.loader import MigrationLoader

    from boundary.django.db.engine import engine_of
    from boundary.django.db.schema import HEAD
    from boundary.migration import revisions

    with engine_of("default").connect() as connection:
        _, head, _ = revisions(connection, "saga")
    newest = MigrationLoader(None).graph.leaf_nodes("saga")
    assert (HEAD, newest) == (head, [("saga", "0001_initial")]), (
        "a new Alembic revision needs a Django migration that runs it, and HEAD to name it"
    )


def test_the_models_are_as_the_migrations_say(project: None) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "saga", check=True, dry_run=True, verbosity=0)


def test_models_read_the_tables_and_write_nothing(clean: None) -> None:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start
    from boundary.django.models import Delivery, Message, ReadOnly, SagaRecord

    with transaction.atomic():
        id = start(KEEP, Text(text="one"))
    saga = SagaRecord.objects.get(pk=id)
    assert (str(saga), saga.status, saga.get_status_display()) == ("keep:one", "running", "Running")
    assert Message.objects.filter(saga=saga, kind="ledger.write").count() == 1
    assert Delivery.objects.select_related("message__saga").filter(consumer="ledger").get()
    for change in (
        saga.save,
        saga.delete,
        SagaRecord.objects.all().delete,
        lambda: SagaRecord.objects.update(status="completed"),
        lambda: SagaRecord.objects.create(id=id),
    ):
        with pytest.raises(ReadOnly):
            change()


def test_the_engine_connects_as_django_does(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections
    from sqlalchemy import text

    from boundary.django.db.engine import engine_of

    options = {"options": "-c application_name=of_django", "assume_role": "pg_monitor"}
    monkeypatch.setitem(connections["mirror"].settings_dict, "OPTIONS", options)
    engine = engine_of("mirror")
    with engine.connect() as connection:
        asked = text("SELECT current_setting('application_name'), current_user")
        assert connection.execute(asked).one() == ("of_django", "pg_monitor")
    assert "***" not in engine.url.render_as_string()
