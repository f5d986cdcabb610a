"""The connection of a hop in Django: kept, replaced, bounded, and the only one that is written to."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.boundary.django.senders import Query


def test_a_lost_connection_is_nobodys_failure(
    hop: Callable[..., Any], trick: Callable[..., None], outside: Query
) -> None:
    runs = []

    def die_once(work: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            pid = work.connection.connection.info.backend_pid
            outside("SELECT pg_terminate_backend(%s, 10000)", pid)
            from ledger.models import Entry

            Entry.objects.count()

    trick("one", die_once)
    assert hop("one") == ("done", None, ["one"])
    assert len(runs) == 2
    assert outside("SELECT sum(attempts) FROM saga.inbox")[0][0] == 0


def test_connections_are_kept_for_a_doorbell_and_given_back_after_it(
    clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.conf import settings
    from django.db import connections, transaction
    from django.db.backends.postgresql.base import DatabaseWrapper
    from django.test import override_settings
    from ledger.sagas import KEEP, Text

    from boundary.django import runtime, start_many

    opened = []
    connect = DatabaseWrapper.get_new_connection

    def counted(self: Any, parameters: Any) -> Any:
        opened.append(self.alias)
        return connect(self, parameters)

    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", counted)
    connections.close_all()
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)
    with override_settings(SAGA={**settings.SAGA, "BATCH": 1}):
        with transaction.atomic():
            start_many(KEEP, [Text(text=f"n{number}") for number in range(3)])
        connections.close_all()
        opened.clear()
        assert runtime().answer("ledger") >= 3
    assert opened == ["default"], "one for all hops of a doorbell"
    assert connections["default"].connection is None


def test_reading_sees_one_moment_and_cannot_write(clean: None) -> None:
    from django.db import InternalError

    from boundary.django import runtime

    with (
        pytest.raises(InternalError, match="read-only"),
        runtime().django.reading() as unit,
    ):
        unit.run("DELETE FROM saga.saga", {})


def test_values_travel_as_they_do_through_sqlalchemy(clean: None) -> None:
    from datetime import timedelta
    from uuid import uuid4

    from django.db import connections, transaction

    from boundary.django.db.unit_of_work import DjangoUnitOfWork
    from saga.state import Status

    given = {
        "id": uuid4(),
        "ids": [uuid4(), None],
        "words": ["a", None, "%", "'"],
        "length": timedelta(days=1, seconds=2),
        "status": Status.STUCK.value,
        "flag": True,
        "number": -3,
    }
    asked = (
        "SELECT %(id)s::uuid, %(ids)s::uuid[], %(words)s::text[], %(length)s::interval, "
        "%(status)s::text, %(flag)s::bool, %(number)s::int"
    )
    with transaction.atomic():
        [row] = DjangoUnitOfWork(connections["default"]).run(asked, given)
    assert list(row) == list(given.values())


def _failing(statement: str) -> BaseException:
    from django.db import DatabaseError, transaction

    from boundary.django.db.unit_of_work import DjangoUnitOfWork

    with pytest.raises(DatabaseError) as raised, transaction.atomic():
        from django.db import connections

        DjangoUnitOfWork(connections["default"]).run(statement, {})
    return raised.value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("state", "transient", "conflict"),
    [
        ("40P01", True, True),
        ("40001", True, True),
        ("55P03", True, True),
        ("57P01", True, False),
        ("53300", True, False),
        ("08006", True, False),
        ("23505", False, False),
        ("42P01", False, False),
        ("57014", False, False),
    ],
)
def test_the_servers_word_is_heard_through_djangos_wrappers(
    clean: None, state: str, transient: bool, conflict: bool
) -> None:
    from internals.database.errors import is_conflict, is_server_trouble, is_transient

    error = _failing(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$")
    assert type(error).__module__ == "django.db.utils"
    assert (is_transient(error), is_conflict(error)) == (transient, conflict)
    # A function or a trigger raised it, so it says nothing about the server.
    assert not is_server_trouble(error)


def test_a_connection_that_cannot_be_made_is_transient(
    clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError, connections

    from boundary.django.db.connections import DjangoDatabase
    from internals.database.errors import is_transient

    connections["mirror"].close()
    monkeypatch.setitem(connections["mirror"].settings_dict, "PORT", 1)
    with pytest.raises(OperationalError) as raised:
        DjangoDatabase("mirror").open()
    assert isinstance(raised.value.__cause__, psycopg.OperationalError)
    assert is_transient(raised.value)
    assert not connections["mirror"].in_atomic_block


def test_a_connection_that_died_between_is_transient(clean: None, outside: Query) -> None:
    from django.db import DatabaseError, Error, transaction

    from boundary.django.db.unit_of_work import DjangoUnitOfWork
    from internals.database.errors import is_transient

    errors: list[BaseException] = []
    with pytest.raises(Error), transaction.atomic():
        from django.db import connection

        unit = DjangoUnitOfWork(connection)
        assert not unit.lost
        unit.run("SELECT 1", {})
        outside("SELECT pg_terminate_backend(%s, 10000)", connection.connection.info.backend_pid)
        for _ in range(2):  # the second has no word of the server's any more
            with pytest.raises(Error) as raised:
                unit.run("SELECT 1", {})
            errors.append(raised.value)
        assert unit.lost
        raise DatabaseError
    assert [is_transient(error) for error in errors] == [True, True]


def test_a_hop_is_bounded_and_leaves_nothing_on_the_connection(
    hop: Callable[..., Any], trick: Callable[..., None]
) -> None:
    from django.db import connection, transaction

    names = ("lock_timeout", "idle_in_transaction_session_timeout")
    seen = []

    def look(_: Any) -> None:
        with connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"SELECT current_setting('{name}')")
                seen.append(cursor.fetchone()[0])

    trick("one", look)
    assert hop("one") == ("done", None, ["one"])
    assert seen == ["61s", "1min"]
    with transaction.atomic():
        look(None)
    assert seen[2:] == ["0", "0"]


def test_a_read_only_connection_is_replaced(
    hop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connection

    from boundary.django import runtime

    with runtime().django.serving():
        connection.ensure_connection()
        monkeypatch.setattr(connection, "close_if_unusable_or_obsolete", lambda: None)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        opened = runtime().django.open()
        with pytest.raises(Exception, match="read-only transaction"):
            opened.unit.run("CREATE TABLE never (n int)", {})
        opened.roll_back()
    assert hop("one") == ("done", None, ["one"])


def test_what_one_sets_for_its_transaction_is_not_the_next_ones(
    trick: Callable[..., None], outside: Query
) -> None:
    from django.db import connection, transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import runtime, start_many

    seen: list[Any] = []

    def tenant() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nullif(current_setting('app.tenant', true), '')")
            return cursor.fetchone()[0]

    def locally(_: Any) -> None:
        seen.append(tenant())
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.tenant', %s, true)", ["acme"])

    def for_good(_: Any) -> None:
        seen.append(tenant())
        with connection.cursor() as cursor:
            cursor.execute("SET app.tenant = 'acme'")

    for n in range(6):
        trick(f"n{n}", locally if n % 2 else for_good)
    with transaction.atomic():
        start_many(KEEP, [Text(text=f"n{n}") for n in range(6)])
    runtime().answer("ledger")
    assert seen == [None] * 6
    assert tenant() is None
    assert outside("SELECT count(*) FROM ledger_entry") == [(6,)]


def _by_another_alias(using: str) -> None:
    from ledger.models import Entry

    Entry.objects.using(using).create(text="past it")


def _by_an_event_loop() -> None:
    from ledger.models import Entry

    async def write() -> None:
        await Entry.objects.acreate(text="past it")

    asyncio.run(write())


#: Connections other than that of the delivery's transaction.
OTHERS: dict[str, Callable[[], None]] = {
    "alias of the same database": lambda: _by_another_alias("mirror"),
    "alias of another one": lambda: _by_another_alias("other"),
    "event loop": _by_an_event_loop,
}


@pytest.mark.parametrize("way", OTHERS)
def test_a_write_on_another_connection_is_refused(
    hop: Callable[..., Any], trick: Callable[..., None], way: str
) -> None:
    from ledger.models import Entry

    trick("one", lambda _: OTHERS[way]())
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error.startswith("NoTransaction: what a handler writes on another connection")
    assert Entry.objects.using("other").count() == 0


def test_other_connections_may_be_read(hop: Callable[..., Any], trick: Callable[..., None]) -> None:
    from ledger.models import Entry

    seen: list[Any] = []

    async def count() -> None:
        seen.append(await Entry.objects.acount())

    def read(_: Any) -> None:
        seen.append(Entry.objects.using("other").count())
        seen.extend(Entry.objects.using("mirror").iterator())
        asyncio.run(count())

    trick("one", read)
    assert hop("one") == ("done", None, ["one"])
    assert seen == [0, 0]


def test_a_saga_that_it_starts_commits_with_the_delivery(
    trick: Callable[..., None], outside: Query
) -> None:
    from django.db import transaction
    from ledger.sagas import ASK, KEEP, Text

    from boundary.django import runtime, start

    ids = []
    for text in ("more", "no more"):
        trick(text, lambda work: ids.append(work.start(ASK, Text(text="a question"))))
        with transaction.atomic():
            start(KEEP, Text(text=text))
    runtime().answer("ledger")
    assert len(ids) == 2, "both were started, and one handler said no"
    assert outside("SELECT id FROM saga.saga WHERE name = 'ask'") == [(ids[0],)]
