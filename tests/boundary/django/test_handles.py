"""What `start` returns in Django: a handle that reads and acts in the caller's `atomic()`, if any."""

from typing import Any
from uuid import UUID

import pytest

from saga.errors import UnknownSaga
from saga.state import Status
from tests.boundary.django.senders import Query


@pytest.fixture
def ask(outside: Query) -> Any:
    """Start a saga that waits for an answer."""
    from ledger.sagas import ASK, Text

    from boundary.django import start

    return lambda: start(ASK, Text(text="a question"))


def status(outside: Query, id: UUID) -> str | None:
    rows = outside("SELECT status FROM saga.saga WHERE id = %s", id)
    return rows[0][0] if rows else None


def test_a_caller_in_atomic_sees_what_it_started(ask: Any, outside: Query) -> None:
    from django.db import transaction

    with transaction.atomic():
        handle = ask()
        assert handle.status() is Status.RUNNING
        assert status(outside, handle) is None, "nobody else sees it yet"
    assert handle.status() is Status.RUNNING
    assert next(node.kind for _, node in handle.trace().walk()) == "saga.started"


def test_a_cancellation_in_atomic_is_rolled_back_with_it(ask: Any, outside: Query) -> None:
    from django.db import transaction

    with transaction.atomic():
        handle = ask()
    with pytest.raises(KeyError), transaction.atomic():
        handle.cancel(reason="a mistake", actor="ann")
        assert handle.status() is Status.COMPENSATING
        raise KeyError
    assert status(outside, handle) == "running"


def test_a_cancellation_outside_of_atomic_is_committed(ask: Any, outside: Query) -> None:
    from django.db import transaction

    with transaction.atomic():
        handle = ask()
    handle.cancel(reason="a mistake", actor="ann")
    assert status(outside, handle) == "compensating"


def test_one_is_got_by_its_key(clean: None) -> None:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import runtime, start

    with transaction.atomic():
        handle = start(KEEP, Text(text="a text"))
    assert runtime().sagas.get((KEEP, "a text")) == handle
    with pytest.raises(UnknownSaga):
        runtime().sagas.get((KEEP, "no text"))


def test_it_is_a_value_for_queries(ask: Any) -> None:
    from django.db import transaction

    from boundary.django.models import SagaRecord

    with transaction.atomic():
        handle = ask()
    assert SagaRecord.objects.get(pk=handle).pk == handle
    assert SagaRecord.objects.filter(pk__in=[handle]).count() == 1
