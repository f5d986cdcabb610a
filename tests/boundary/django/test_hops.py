"""Handlers run inside `atomic()` on Django's connection, with the claim on it."""

from collections.abc import Callable
from typing import Any

import pytest

from saga.errors import NoTransaction
from tests.boundary.django.senders import Query


def test_the_orms_writes_and_the_delivery_commit_together(
    hop: Callable[..., Any], trick: Callable[..., None]
) -> None:
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


def test_what_fails_leaves_nothing_and_is_tried_again(
    hop: Callable[..., Any], trick: Callable[..., None]
) -> None:
    def fail(_: Any) -> None:
        raise KeyError("oh")

    trick("one", fail)
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error == "KeyError: 'oh'"


def test_a_rejection_rolls_back_what_the_handler_wrote(hop: Callable[..., Any]) -> None:
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
def test_a_handler_cannot_end_the_transaction(
    hop: Callable[..., Any], trick: Callable[..., None], name: str
) -> None:
    trick("one", _endings()[name])
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", [])
    assert error.startswith("NoTransaction: a handler must not commit, roll back or close")


def test_a_handler_may_use_blocks_of_its_own(
    hop: Callable[..., Any], trick: Callable[..., None]
) -> None:
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
def test_a_handler_that_goes_on_after_an_error_is_not_done(
    hop: Callable[..., Any], trick: Callable[..., None], do: Any
) -> None:
    trick("one", do)
    state, error, entries = hop("one")
    assert (state, entries) == ("pending", []), "its writes are gone, so it cannot count as done"
    assert error is not None


def test_a_hook_of_a_handler_that_fails_fails_nothing(
    hop: Callable[..., Any], trick: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def hook(_: Any) -> None:
        from django.db import transaction

        transaction.on_commit(lambda: 1 / 0)
        transaction.on_commit(lambda: said.append("next"))

    trick("one", hook)
    assert hop("one") == ("done", None, ["one"])
    assert said == ["next"]


def test_work_session_says_that_this_is_django(
    hop: Callable[..., Any], trick: Callable[..., None]
) -> None:
    trick("one", lambda work: work.session)
    _, error, _ = hop("one")
    assert error == "TypeError: work.session needs SQLAlchemy; this transaction is not its own"


def test_a_hop_is_refused_inside_the_hosts_block(clean: None) -> None:
    from django.db import transaction

    from boundary.django import runtime

    with (
        transaction.atomic(),
        pytest.raises(NoTransaction, match=r"is in transaction.atomic\(using='default'\) already"),
    ):
        runtime().answer("ledger")


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
    trick: Callable[..., None], outside: Query
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
