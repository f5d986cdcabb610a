"""Handlers run inside `atomic()` on Django's connection, with the claim on it."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from saga.errors import NoTransaction
from tests.boundary.django.senders import Query


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


def test_the_orms_writes_and_the_delivery_commit_together(hop, trick) -> None:
    seen = []

    def look(work: Any) -> None:
        from django.db import connection, connections

        seen.append(work.connection is connections["default"])
        seen.append(connection.in_atomic_block)
        with work.connection.cursor() as cursor:
            cursor.execute("INSERT INTO ledger_entry (text) VALUES ('by hand')")

    trick("one", look)
    assert hop("one") == ("done", None, ["one", "by hand"])
    assert seen == [True, True]


def test_what_fails_leaves_nothing_and_is_tried_again(hop, trick) -> None:
    def fail(_: Any) -> None:
        raise KeyError("oh")

    trick("one", fail)
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error == "KeyError: 'oh'"


def test_a_rejection_rolls_back_what_the_handler_wrote(hop) -> None:
    state, error, entries = hop("no way")
    assert (state, entries) == ("done", [])
    assert error == "rejected: the ledger takes no such thing"


def _endings() -> dict[str, Callable[[Any], None]]:
    from django.db import connection, transaction

    return {
        "commit": lambda _: transaction.commit(),
        "rollback": lambda _: transaction.rollback(),
        "connection.commit": lambda work: work.connection.commit(),
        "connection.rollback": lambda work: work.connection.rollback(),
        "set_autocommit": lambda _: transaction.set_autocommit(True),
        "close": lambda _: connection.close(),
    }


@pytest.mark.parametrize(
    "name",
    ["commit", "rollback", "connection.commit", "connection.rollback", "set_autocommit", "close"],
)
def test_a_handler_cannot_end_the_transaction(hop, trick, name: str) -> None:
    trick("one", _endings()[name])
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error.startswith("NoTransaction: a handler must not commit, roll back or close")


def test_a_handler_may_use_blocks_of_its_own(hop, trick) -> None:
    def nest(_: Any) -> None:
        from django.db import IntegrityError, transaction
        from ledger.models import Entry

        with pytest.raises(IntegrityError), transaction.atomic():
            Entry.objects.create(text="one")
        with transaction.atomic():
            Entry.objects.create(text="two")

    trick("one", nest)
    assert hop("one") == ("done", None, ["one", "two"])


def _swallow(_: Any) -> None:
    from django.db import IntegrityError
    from ledger.models import Entry

    with pytest.raises(IntegrityError):
        Entry.objects.create(text="one")


def _swallow_by_hand(_: Any) -> None:
    from django.db import IntegrityError, connection

    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute("INSERT INTO ledger_entry (text) VALUES ('one')")


def _mark(_: Any) -> None:
    from django.db import transaction

    transaction.set_rollback(True)


@pytest.mark.parametrize("do", [_swallow, _swallow_by_hand, _mark])
def test_a_handler_that_goes_on_after_an_error_is_not_done(hop, trick, do) -> None:
    trick("one", do)
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", []), "its writes are gone, so it cannot count as done"
    assert error is not None


def test_a_hook_of_a_handler_that_fails_fails_nothing(
    hop, trick, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def hook(_: Any) -> None:
        from django.db import transaction

        transaction.on_commit(lambda: 1 / 0)
        transaction.on_commit(lambda: said.append("next"))

    trick("one", hook)
    assert hop("one") == ("done", None, ["one"])
    assert said == ["next"]


def test_work_session_says_that_this_is_django(hop, trick) -> None:
    trick("one", lambda work: work.session)
    _, error, _ = hop("one")
    assert error == "TypeError: work.session needs SQLAlchemy; this transaction is not its own"


def test_a_lost_connection_is_nobodys_failure(hop, trick, outside: Query) -> None:
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


def test_a_hop_is_refused_inside_the_hosts_block(clean: None) -> None:
    from django.db import transaction

    from boundary.django import runtime

    with (
        transaction.atomic(),
        pytest.raises(NoTransaction, match=r"is in transaction.atomic\(using='default'\) already"),
    ):
        runtime().answer("ledger")


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
    return raised.value


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


def test_a_hop_is_bounded_and_leaves_nothing_on_the_connection(hop, trick) -> None:
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


def test_a_read_only_connection_is_replaced(hop, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_a_host_calls_waits_for_a_while_and_leaves_its_block_usable(
    clean: None, outside: Query
) -> None:
    from django.db import connection, transaction
    from ledger.models import Entry

    from boundary.django.db.unit_of_work import DjangoUnitOfWork
    from internals.database.lock_waits import bounded
    from saga import StillLocked

    outside("SELECT pg_advisory_lock(77)")
    with transaction.atomic():
        Entry.objects.create(text="before")
        unit = DjangoUnitOfWork(connection)
        with (
            pytest.raises(StillLocked, match="the vault is locked"),
            bounded(unit, 0.05, "the vault"),
        ):
            unit.run("SELECT pg_advisory_xact_lock(77)", {})
        assert unit.run("SELECT current_setting('lock_timeout')", {}) == [("0",)]
    outside("SELECT pg_advisory_unlock(77)")
    assert [entry.text for entry in Entry.objects.all()] == ["before"]


def test_a_foreign_key_that_the_commit_finds_broken_is_its_handlers_failure(
    trick, outside: Query
) -> None:
    """Django's foreign keys are checked at the commit."""
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import runtime, start_many

    def break_it(work: Any) -> None:
        work.execute(
            "INSERT INTO auth_permission (name, content_type_id, codename) VALUES ('a', -1, 'a')"
        )

    trick("broken", break_it)
    with transaction.atomic():
        texts = ["good 0", "good 1", "broken", "good 2", "good 3"]
        start_many(KEEP, [Text(text=text) for text in texts])
    runtime().answer("ledger")
    found = outside(
        "SELECT o.payload ->> 'text', i.state, i.attempts, i.last_error FROM saga.inbox AS i "
        "JOIN saga.outbox AS o ON o.id = i.message_id WHERE o.kind = 'ledger.write'"
    )
    by_text = {text: rest for text, *rest in found}
    state, attempts, error = by_text.pop("broken")
    assert (state, attempts) == ("pending", 1)
    assert "violates foreign key constraint" in error
    assert {tuple(rest) for rest in by_text.values()} == {("done", 0, None)}
    entries = [text for (text,) in outside("SELECT text FROM ledger_entry ORDER BY id")]
    assert sorted(entries) == [f"good {n}" for n in range(4)]


def test_what_one_sets_for_its_transaction_is_not_the_next_ones(trick, outside: Query) -> None:
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
def test_a_write_on_another_connection_is_refused(hop, trick, way: str) -> None:
    from ledger.models import Entry

    trick("one", lambda _: OTHERS[way]())
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error.startswith("NoTransaction: what a handler writes on another connection")
    assert Entry.objects.using("other").count() == 0


def test_other_connections_may_be_read(hop, trick) -> None:
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
