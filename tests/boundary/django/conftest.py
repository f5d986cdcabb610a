"""A Django project on this run's servers, in databases of this process's own."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.boundary.django.django_project import (
    configure,
    create_databases,
    drop_databases,
    environment,
)
from tests.boundary.django.senders import Query
from tests.conftest import ROOT, Addresses

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def project(servers: Addresses) -> Iterator[None]:
    """Django, set up once for this process, with migrated test databases."""
    sys.path.insert(0, str(HERE))
    names = configure(servers.database_url, servers.redis_url, f"saga_test_{uuid4().hex[:12]}")
    create_databases(servers.database_url, names)
    import django

    django.setup()
    from django.core.management import call_command

    for name in environment():
        del os.environ[name]  # other tests of this process start Django projects of their own
    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)
    yield
    from boundary.django.project import forget

    forget(setting="SAGA")
    from django.db import connections

    connections.close_all()
    drop_databases(servers.database_url, names)


@pytest.fixture
def clean(project: None) -> Iterator[None]:
    """The project with empty tables, for a test that commits."""
    yield
    from django.db import connections, transaction

    for alias in ("default", "mirror", "other"):
        connection = connections[alias]
        assert not connection.in_atomic_block
        transaction.set_autocommit(True, using=alias)
    with connections["default"].cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # the audit refuses else
        cursor.execute("DELETE FROM saga.saga; DELETE FROM saga.outbox; DELETE FROM saga.inbox")
        cursor.execute("DELETE FROM saga.audit; DELETE FROM ledger_entry; DELETE FROM auth_user")
        cursor.execute("SET session_replication_role = origin")
    connections.close_all()


@pytest.fixture
def outside(clean: None) -> Iterator[Callable[..., list[Any]]]:
    """Query by a connection of its own, which sees only what is committed."""
    from boundary.django.db.engine import engine_of

    engine = engine_of("default")
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")

        def query(sql: str, *parameters: Any) -> list[Any]:
            driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
            return driver.execute(sql, parameters).fetchall()

        yield query


@pytest.fixture
def project_environment(project: None) -> dict[str, str]:
    """The project as the environment of another process."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "SHOP_"))}
    path = os.pathsep.join([str(HERE), str(ROOT)])
    return plain | environment() | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def hop(outside: Query) -> Callable[[str], Any]:
    """Start a saga of this text, answer once for the ledger, and return what became of it."""

    def run(text: str, times: int = 1) -> Any:
        from django.db import transaction
        from ledger.sagas import KEEP, Text

        from boundary.django import runtime, start

        with transaction.atomic():
            start(KEEP, Text(text=text))
        for _ in range(times):
            runtime().answer("ledger")
        [(state, error)] = outside(
            "SELECT state, last_error FROM saga.inbox AS i JOIN saga.outbox AS o "
            "ON o.id = i.message_id WHERE o.kind = 'ledger.write'"
        )
        entries = [text for (text,) in outside("SELECT text FROM ledger_entry ORDER BY id")]
        return state, error, entries

    return run


@pytest.fixture
def trick(project: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the handler of this text do something too."""
    from ledger.contexts import TRICKS

    return lambda text, do: monkeypatch.setitem(TRICKS, text, do)
