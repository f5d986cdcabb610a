"""An external handler reads as it likes before `work.begin()`, and writes nothing."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any

import pytest

from saga import NoTransaction
from tests.boundary.django.senders import Query


@pytest.fixture
def call(outside: Query, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Run a function as an external handler, up to three times; returns the deliveries' fates."""
    from django.db import transaction
    from ledger.contexts import gossip
    from ledger.words import Noted

    from boundary.django import publish, runtime
    from boundary.django.project import forget
    from saga import Retry

    def run(handler: Callable[[Any], object], attempts: int = 3) -> Any:
        monkeypatch.delitem(gossip.handlers, Noted.kind)
        retry = Retry(attempts=attempts, backoff=timedelta(0))
        gossip.reacts_to(Noted, external=True, retry=retry)(lambda _, work: handler(work))
        forget(setting="SAGA")
        runtime().subscribe()
        with transaction.atomic():
            publish(Noted(text="a word"))
        for _ in range(attempts):
            runtime().answer("gossip")
        return outside("SELECT state, attempts, last_error FROM saga.inbox")[0]

    before = gossip.handlers[Noted.kind]
    yield run
    gossip.handlers[Noted.kind] = before
    forget(setting="SAGA")


def kept(outside: Query) -> list[str]:
    return [text for (text,) in outside("SELECT text FROM ledger_entry ORDER BY id")]


def _entry() -> Any:
    from ledger.models import Entry

    return Entry


def _raw(sql: str, using: str = "default") -> None:
    from django.db import connections

    with connections[using].cursor() as cursor:
        cursor.execute(sql)


def _in_a_block(do: Callable[[], object]) -> None:
    from django.db import transaction

    with transaction.atomic(), transaction.atomic():
        do()


def _copied() -> None:
    from django.db import connection

    with connection.cursor() as cursor, cursor.copy("COPY ledger_entry (text) FROM STDIN") as copy:
        copy.write_row(("one",))


def _locked() -> None:
    from django.db import transaction

    with transaction.atomic():
        list(_entry().objects.select_for_update())


def _on_a_new_connection() -> None:
    from django.db import connection

    connection.close()
    _entry().objects.create(text="one")


WRITES: dict[str, Callable[[], object]] = {
    "create": lambda: _entry().objects.create(text="one"),
    "bulk": lambda: _entry().objects.bulk_create([_entry()(text="one"), _entry()(text="two")]),
    "update": lambda: _entry().objects.update(text="one"),
    "raw": lambda: _raw("INSERT INTO ledger_entry (text) VALUES ('one')"),
    "function": lambda: _raw("DO $$ BEGIN INSERT INTO ledger_entry (text) VALUES ('one'); END $$"),
    "block": lambda: _in_a_block(lambda: _entry().objects.create(text="one")),
    "locked": _locked,
    "new connection": _on_a_new_connection,
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_before_begin_is_refused(call: Any, outside: Query, name: str) -> None:
    state, attempts, error = call(lambda _: WRITES[name]())
    assert (state, attempts) == ("parked", 3)
    assert error.startswith("NoTransaction: this handler is external")
    assert "call work.begin() after the call" in error
    assert kept(outside) == []


async def _awaited() -> None:
    await _entry().objects.acreate(text="one")


def _block_of_another_alias() -> None:
    from django.db import transaction

    with transaction.atomic(using="mirror"):
        list(_entry().objects.using("mirror").iterator())
        _entry().objects.using("mirror").create(text="one")


#: Ways past the transaction of a delivery that the framework could not see at once.
PAST: dict[str, Callable[[], object]] = {
    "alias of the same database": lambda: _entry().objects.using("mirror").create(text="one"),
    "event loop": lambda: asyncio.run(_awaited()),
    "thread with the context": lambda: _in_a_thread(
        copy_context(), lambda: _entry().objects.create(text="one")
    ),
    "block of another alias": _block_of_another_alias,
    "driver": lambda: _driver().execute("INSERT INTO ledger_entry (text) VALUES ('one')"),
}


def _in_a_thread(context: Context, do: Callable[[], object]) -> None:
    def in_it() -> None:
        from django.db import connection

        try:
            do()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(context.run, in_it).result()


def _driver() -> Any:
    from django.db import connections

    connections["mirror"].ensure_connection()
    return connections["mirror"].connection


@pytest.mark.parametrize("way", PAST)
def test_no_way_leads_past_it(call: Any, outside: Query, way: str) -> None:
    state, _, error = call(lambda _: PAST[way](), attempts=1)
    assert state == "parked"
    assert error.startswith("NoTransaction: this handler is external")
    assert kept(outside) == []


@pytest.mark.parametrize("way", PAST)
def test_nor_once_it_has_begun(call: Any, outside: Query, way: str) -> None:
    def handler(work: Any) -> None:
        work.begin()
        _entry().objects.create(text="with the delivery")
        PAST[way]()

    state, _, error = call(handler, attempts=1)
    assert state == "parked"
    assert error.startswith("NoTransaction: what a handler writes on another connection")
    assert kept(outside) == []


def test_another_database_is_outside(call: Any, outside: Query) -> None:
    def handler(work: Any) -> None:
        _entry().objects.using("other").all().delete()
        work.begin()
        _entry().objects.using("other").create(text="one")

    assert call(handler) == ("done", 0, None)
    assert _entry().objects.using("other").count() == 1
    _entry().objects.using("other").all().delete()


def test_connections_write_again_when_it_has_ended(call: Any, outside: Query) -> None:
    def handler(_: Any) -> None:
        assert _entry().objects.using("mirror").count() == 0
        with pytest.raises(NoTransaction):
            _entry().objects.using("mirror").create(text="one")

    assert call(handler) == ("done", 0, None)
    _entry().objects.using("mirror").create(text="by the host")
    assert kept(outside) == ["by the host"]


def test_copy_is_refused_too(call: Any, outside: Query) -> None:
    state, attempts, error = call(lambda _: _copied())
    assert (state, attempts) == ("parked", 3)
    assert error.startswith("NoTransaction: this handler is external")
    assert kept(outside) == []


def test_reads_are_not_and_writes_after_begin_are_kept(call: Any, outside: Query) -> None:
    seen: list[Any] = []

    def handler(work: Any) -> None:
        from django.db import transaction

        seen.append(_entry().objects.count())
        with transaction.atomic():
            seen.append(list(_entry().objects.values_list("text", flat=True)))
        work.begin()
        _entry().objects.create(text="after")

    assert call(handler) == ("done", 0, None)
    assert seen == [0, []]
    assert kept(outside) == ["after"]


@pytest.mark.parametrize("ended", ["returned", "raised", "lost", "no autocommit"])
def test_the_connection_is_as_before_when_it_has_ended(
    call: Any, outside: Query, ended: str
) -> None:
    from django.db import connection, transaction

    def handler(work: Any) -> None:
        _entry().objects.count()
        if ended == "raised":
            raise ValueError("no answer")
        if ended == "lost":
            outside(
                "SELECT pg_terminate_backend(%s, 10000)", connection.connection.info.backend_pid
            )
        if ended == "no autocommit":
            transaction.set_autocommit(False)
            _entry().objects.count()

    state, _, error = call(handler, attempts=1)
    assert (state, error) == (
        ("parked", "ValueError: no answer") if ended == "raised" else ("done", None)
    )
    assert not connection.in_atomic_block
    assert connection.get_autocommit()
    _entry().objects.create(text="by the host")
    assert kept(outside) == ["by the host"]


def test_an_alias_that_is_a_contexts_own_is_guarded_too(
    call: Any, outside: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.contexts import ledger

    monkeypatch.setattr(ledger, "database", "other")
    error = call(
        lambda _: _raw("INSERT INTO ledger_entry (text) VALUES ('one')", using="other"), attempts=1
    )[2]
    assert error.startswith("NoTransaction: this handler is external")
    assert _entry().objects.using("other").count() == 0


def test_begin_is_refused_in_a_block_of_the_handlers_own(call: Any, outside: Query) -> None:
    from django.db import connection, transaction

    def handler(work: Any) -> None:
        with transaction.atomic():
            work.begin()

    state, _, error = call(handler, attempts=1)
    assert (state, error.partition(";")[2]) == (
        "parked",
        " leave transaction.atomic() before work.begin()",
    )
    assert connection.get_autocommit()
    _entry().objects.create(text="by the host")
    assert kept(outside) == ["by the host"]


def test_in_a_test_case_too(call: Any, outside: Query) -> None:
    from django.db import transaction
    from ledger.words import Noted

    from boundary.django import publish
    from boundary.django.models import Delivery
    from boundary.django.testing import run_due

    class Over(Exception):
        """The test's transaction ends."""

    errors: list[Any] = []

    def handler(work: Any) -> None:
        _entry().objects.count()
        if errors:
            work.begin()
        try:
            _entry().objects.create(text=work.idempotency_key)
        except NoTransaction as error:
            errors.append(error)
            raise

    assert call(handler)[:2] == ("done", 1)
    with pytest.raises(Over), transaction.atomic():
        errors.clear()
        publish(Noted(text="another"))
        run_due()
        assert len(errors) == 1
        assert Delivery.objects.filter(state="done", attempts=1).count() == 2
        _entry().objects.create(text="by the test")
        assert _entry().objects.count() == 3
        raise Over


def test_nothing_is_set_for_the_session(call: Any, outside: Query) -> None:
    """Behind a pooler it would be that of whoever is given it next."""
    from django.db import connection

    seen: list[Any] = []

    def handler(work: Any) -> None:
        assert _entry().objects.count() == 0
        pid = connection.connection.info.backend_pid
        # All that a session says of itself to others: it is in no transaction while it is called out.
        seen.extend(outside("SELECT state FROM pg_stat_activity WHERE pid = %s", pid))
        seen.append(connection.connection.execute("SHOW default_transaction_read_only").fetchone())

    assert call(handler) == ("done", 0, None)
    assert seen == [("idle",), ("off",)]
