"""What is sent commits with the caller's `atomic()`, or not at all: every way of Django's."""

import unittest
from collections.abc import Callable
from typing import Any

import pytest

from saga.errors import NoTransaction, SagaError
from tests.boundary.django.senders import Query, Sender, sender


@pytest.fixture(params=["start", "publish", "signal"])
def sends(request: pytest.FixtureRequest, outside: Query) -> Sender:
    return sender(request.param, outside)


@pytest.fixture
def entries(outside: Query) -> Callable[[], int]:
    return lambda: outside("SELECT count(*) FROM ledger_entry")[0][0]


def write(text: str = "of the caller") -> None:
    from ledger.models import Entry

    Entry.objects.create(text=text)


def test_it_commits_with_the_caller(sends: Sender, entries: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        write()
        sends.send()
        assert (sends.sent(), entries()) == (0, 0), "nobody else sees it yet"
    assert (sends.sent(), entries()) == (1, 1)


def test_it_is_rolled_back_with_the_caller(sends: Sender, entries: Any) -> None:
    from django.db import transaction

    with pytest.raises(KeyError), transaction.atomic():
        write()
        sends.send()
        raise KeyError
    assert (sends.sent(), entries()) == (0, 0)


def test_a_savepoint_that_is_rolled_back_takes_it_along(sends: Sender, entries: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        write()
        with pytest.raises(KeyError), transaction.atomic():
            sends.send()
            raise KeyError
    assert (sends.sent(), entries()) == (0, 1)


def test_nested_blocks_commit_with_the_outermost(sends: Sender, entries: Any) -> None:
    from django.db import transaction

    with transaction.atomic():
        with transaction.atomic(), transaction.atomic(savepoint=False):
            sends.send()
        assert sends.sent() == 0
        write()
    assert (sends.sent(), entries()) == (1, 1)


def test_what_is_refused_leaves_nothing_and_the_callers_transaction_usable(
    outside: Query, entries: Any
) -> None:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start, start_many

    with transaction.atomic():
        start(KEEP, Text(text="twice"))
    with transaction.atomic():
        with pytest.raises(SagaError):
            start_many(KEEP, [Text(text="new"), Text(text="twice", secret="another")])
        write()
    assert entries() == 1
    assert outside("SELECT key FROM saga.saga") == [("twice",)]


@pytest.mark.parametrize("well", [True, False])
def test_atomic_requests(sends: Sender, entries: Any, well: bool) -> None:
    import django_urls
    from django.db import connections
    from django.test import Client

    settings = connections["default"].settings_dict
    before = settings["ATOMIC_REQUESTS"]
    settings["ATOMIC_REQUESTS"] = True
    django_urls.SEND[:] = [sends.send]
    try:
        client = Client(raise_request_exception=False)
        answer = client.get("/raising/", {"well": "1"} if well else {})
    finally:
        settings["ATOMIC_REQUESTS"] = before
        django_urls.SEND.clear()
    assert answer.status_code == (200 if well else 500)
    assert (sends.sent(), entries()) == ((1, 1) if well else (0, 0))


def test_a_durable_block(sends: Sender, entries: Any) -> None:
    from django.db import transaction

    with transaction.atomic(durable=True):
        write()
        sends.send()
    assert (sends.sent(), entries()) == (1, 1)


def test_another_alias_of_the_same_database(sends: Sender) -> None:
    from django.db import transaction

    with pytest.raises(KeyError), transaction.atomic(using="mirror"):
        sends.send(using="mirror")
        raise KeyError
    assert sends.sent() == 0
    with transaction.atomic(using="mirror"):
        sends.send(using="mirror")
    assert sends.sent() == 1


def test_a_transaction_of_another_database_is_not_one(sends: Sender) -> None:
    from django.db import transaction

    with transaction.atomic(using="other"):
        with pytest.raises(NoTransaction, match="'other' would not commit with it"):
            sends.send(using="other")
        with pytest.raises(NoTransaction, match=r"use `with transaction.atomic\(\):`"):
            sends.send()
    assert sends.sent() == 0


def test_no_transaction_is_refused_in_words(sends: Sender) -> None:
    with pytest.raises(NoTransaction, match="no transaction is open on the database 'default'"):
        sends.send()
    assert sends.sent() == 0


def test_autocommit_turned_off_is_not_a_transaction(sends: Sender) -> None:
    from django.db import transaction

    transaction.set_autocommit(False)
    try:
        with pytest.raises(NoTransaction):
            sends.send()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert sends.sent() == 0


def test_a_broken_transaction_takes_nothing_more(sends: Sender) -> None:
    from django.db import IntegrityError, transaction

    with transaction.atomic():
        write("same")
        with pytest.raises(IntegrityError), transaction.atomic(savepoint=False):
            write("same")
        with pytest.raises(transaction.TransactionManagementError):
            sends.send()
        transaction.set_rollback(True)
    assert sends.sent() == 0


def test_doorbells_ring_after_the_commit_in_order(
    sends: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import transaction

    from boundary.django import runtime

    said: list[str] = []
    monkeypatch.setattr(
        runtime()._wiring.broker, "ring", lambda _: said.append(f"ring {sends.sent()}")
    )
    with transaction.atomic():
        transaction.on_commit(lambda: said.append("before"))
        sends.send()
        transaction.on_commit(lambda: said.append("after"))
        assert said == []
    assert said == ["before", "ring 1", "after"]


def test_a_doorbell_that_fails_fails_nothing(
    sends: Sender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import transaction

    from boundary.django import runtime

    said: list[str] = []

    def fail(_: object) -> None:
        raise ConnectionError("no Redis")

    monkeypatch.setattr(runtime()._wiring.broker, "ring", fail)
    with transaction.atomic():
        sends.send()
        transaction.on_commit(lambda: said.append("after"))
    assert (sends.sent(), said) == (1, ["after"])


def test_in_a_test_case_nothing_is_left(sends: Sender) -> None:
    from django.test import TestCase

    class OfTheHost(TestCase):
        def test_it(self) -> None:
            sends.send()

    result = unittest.TestResult()
    unittest.TestSuite([OfTheHost("test_it")]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert sends.sent() == 0


@pytest.mark.parametrize("handle", [object(), 1])
def test_a_handle_that_is_no_alias_is_refused(clean: None, handle: object) -> None:
    from ledger.words import Noted

    from boundary.django import runtime

    with pytest.raises(NoTransaction, match="give the alias of the database"):
        runtime().publish(handle, Noted(text="x"))
