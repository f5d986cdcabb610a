"""The helpers for a host's own tests: everything due, in the test's transaction, in order."""

import unittest
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.boundary.django.senders import Query

pytest_plugins = ["boundary.django.testing.pytest_plugin"]


@pytest.fixture
def in_test_case(outside: Query) -> Callable[[Callable[[], None]], None]:
    """Run a function as a test of Django's `TestCase`, after which nothing may be left."""
    from django.test import TestCase

    def run(test: Callable[[], None]) -> None:
        class OfTheHost(TestCase):
            def test_it(self) -> None:
                test()

        result = unittest.TestResult()
        unittest.TestSuite([OfTheHost("test_it")]).run(result)
        assert (result.testsRun, result.errors, result.failures) == (1, [], [])
        assert outside("SELECT count(*) FROM saga.outbox") == [(0,)]
        assert outside("SELECT count(*) FROM ledger_entry") == [(0,)]

    return run


def status(id: Any) -> str:
    from boundary.django.models import SagaRecord

    return str(SagaRecord.objects.get(pk=id).status)


def entries() -> list[str]:
    from ledger.models import Entry

    return list(Entry.objects.order_by("id").values_list("text", flat=True))


def test_a_saga_runs_to_its_end(in_test_case: Any) -> None:
    def test() -> None:
        from ledger.sagas import KEEP, Text

        from boundary.django import start
        from boundary.django.testing import run_due

        id = start(KEEP, Text(text="one"))
        assert status(id) == "running"
        assert run_due() > 0
        assert status(id) == "completed"
        assert entries() == ["one"]
        assert run_due() == 0

    in_test_case(test)


def test_an_event_reaches_who_reacts_to_it(in_test_case: Any) -> None:
    def test() -> None:
        from ledger.words import Noted

        from boundary.django import publish
        from boundary.django.testing import run_due

        publish(Noted(text="it"))
        assert run_due() == 1
        assert entries() == ["heard of it"]

    in_test_case(test)


def test_what_is_tried_again_at_once_is_due(
    in_test_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def test() -> None:
        from ledger.contexts import TRICKS
        from ledger.words import Noted

        from boundary.django import publish
        from boundary.django.testing import run_due

        runs: list[int] = []

        def fail_twice(_: Any) -> None:
            runs.append(1)
            if len(runs) < 3:
                raise KeyError

        monkeypatch.setitem(TRICKS, "shy", fail_twice)
        publish(Noted(text="shy"))
        run_due()
        assert (len(runs), entries()) == (3, ["heard of shy"])

    in_test_case(test)


def test_time_moves_forward(in_test_case: Any) -> None:
    def test() -> None:
        from ledger.sagas import ASK, Text

        from boundary.django import start
        from boundary.django.testing import advance, run_due

        id = start(ASK, Text(text="one"))
        run_due()
        advance(timedelta(hours=23))
        assert (status(id), entries()) == ("running", ["one"])
        advance(timedelta(hours=2))
        assert (status(id), entries()) == ("compensated", [])

    in_test_case(test)


def test_what_failed_is_tried_again_when_its_time_has_come(
    in_test_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def test() -> None:
        from ledger.contexts import TRICKS
        from ledger.sagas import KEEP, Text

        from boundary.django import start
        from boundary.django.testing import advance, run_due

        runs: list[int] = []

        def fail_once(_: Any) -> None:
            runs.append(1)
            if len(runs) == 1:
                raise KeyError

        monkeypatch.setitem(TRICKS, "one", fail_once)
        id = start(KEEP, Text(text="one"))
        run_due()
        assert (len(runs), entries()) == (1, [])
        advance(timedelta(minutes=2))
        assert (len(runs), entries(), status(id)) == (2, ["one"], "completed")

    in_test_case(test)


def test_a_stuck_saga_is_replayed_by_the_command_within_the_test(
    in_test_case: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_ACTOR", "ann")

    def test() -> None:
        from django.core.management import CommandError, call_command
        from ledger.sagas import KEEP, Text

        from boundary.django import start
        from boundary.django.testing import run_due

        id = start(KEEP, Text(text="bug"))
        run_due()
        assert status(id) == "stuck"
        call_command("saga", "replay", "bug", "--reason", "why not")
        assert capsys.readouterr().out.startswith("bug replayed: stuck → running")
        run_due()
        assert status(id) == "stuck"
        with pytest.raises(CommandError):
            call_command("saga", "skip", "nobody", "settle", "--reason", "why not")
        call_command("saga", "skip", "bug", "settle", "--reason", "done by hand")
        run_due()
        assert (status(id), entries()) == ("completed", ["bug"])

    in_test_case(test)


def test_the_fixtures_do_the_same(in_test_case: Any, saga_run_due: Any, saga_advance: Any) -> None:
    def test() -> None:
        from ledger.words import Noted

        from boundary.django import publish

        publish(Noted(text="it"))
        assert saga_run_due() == 1
        assert saga_advance(timedelta(days=1)) == 0

    in_test_case(test)


def test_in_a_transaction_test_case_hops_commit(outside: Query) -> None:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start
    from boundary.django.testing import run_due

    with transaction.atomic():
        start(KEEP, Text(text="one"))
    run_due()
    assert outside("SELECT status FROM saga.saga") == [("completed",)]


@pytest.fixture
def in_transaction_test_cases(outside: Query) -> Callable[..., None]:
    """Run functions as tests of Django's `TransactionTestCase`, one after the other."""
    from django.test import TransactionTestCase

    def run(*tests: Callable[[], None]) -> None:
        for each in tests:

            class OfTheHost(TransactionTestCase):
                def test_it(self, each: Callable[[], None] = each) -> None:
                    each()

            result = unittest.TestResult()
            unittest.TestSuite([OfTheHost("test_it")]).run(result)
            assert (result.testsRun, result.errors, result.failures) == (1, [], [])

    return run


def test_a_transaction_test_case_leaves_no_saga_to_the_next(
    in_transaction_test_cases: Any, outside: Query
) -> None:
    def test() -> None:
        from django.db import transaction
        from ledger.sagas import KEEP, Text
        from ledger.words import Noted

        from boundary.django import publish, start
        from boundary.django.testing import run_due

        with transaction.atomic():
            id = start(KEEP, Text(text="the same order"))
            publish(Noted(text="the same word"))
        assert status(id) == "running"
        assert run_due() > 0
        assert status(id) == "completed"
        assert len(entries()) == 2

    in_transaction_test_cases(test, test)
    for table in ("saga", "outbox", "inbox", "settling", "audit"):
        assert outside(f"SELECT count(*) FROM saga.{table}") == [(0,)]
    assert outside("SELECT count(*) > 0 FROM saga.subscription") == [(True,)]


def test_flush_empties_the_audit_too_and_it_is_append_only_again(outside: Query) -> None:
    import psycopg
    from django.core.management import call_command
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import runtime, start

    with transaction.atomic():
        id = start(KEEP, Text(text="one"))
    with transaction.atomic():
        runtime().cancel(None, id, reason="a test", actor="ann")
    assert outside("SELECT count(*) FROM saga.audit") == [(1,)]
    call_command("flush", interactive=False, verbosity=0)
    assert outside("SELECT count(*) FROM saga.audit") == [(0,)]
    with transaction.atomic():
        id = start(KEEP, Text(text="one"))
        runtime().cancel(None, id, reason="a test", actor="ann")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        outside("DELETE FROM saga.audit")


def test_a_flush_that_is_not_confirmed_removes_nothing(
    outside: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.management import call_command
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start

    with transaction.atomic():
        start(KEEP, Text(text="one"))
    monkeypatch.setattr("builtins.input", lambda _: "no")
    call_command("flush", verbosity=0)
    assert outside("SELECT count(*) FROM saga.saga") == [(1,)]
