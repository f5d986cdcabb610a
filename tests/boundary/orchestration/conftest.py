"""Sagas to start: removals seen from the office, and loans of a library."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from boundary import Runtime
from internals import Context
from saga import Saga
from tests.boundary.worlds.lending import KEYLESS, LOAN, Loan
from tests.boundary.worlds.parallel_steps import MOVING, Office, contexts


@pytest.fixture
def office(runtime: Any, outside: Any) -> Callable[..., Office]:
    def make(*sagas: Saga[Any], contexts: list[Context] | None = None) -> Office:
        return Office(runtime(sagas or (MOVING,), contexts or []), outside)

    return make


@pytest.fixture
def busy(office: Any) -> Office:
    """An office whose contexts do what they are told."""
    made: Office = office(contexts=contexts())
    return made


@pytest.fixture
def library(runtime: Callable[..., Runtime]) -> Runtime:
    return runtime([LOAN, KEYLESS])


@pytest.fixture
def start(library: Runtime) -> Callable[..., UUID]:
    """Start a saga in a transaction of its own."""

    def start(data: Loan, saga: Saga[Loan] = LOAN, **options: Any) -> UUID:
        with library.engine.begin() as connection:
            return library.start(connection, saga, data, **options)

    return start


@pytest.fixture
def count(outside: psycopg.Connection[Any]) -> Callable[[], tuple[int, int, int]]:
    """The committed sagas, messages and deliveries."""

    def count() -> tuple[int, int, int]:
        tables = ("saga", "outbox", "inbox")
        rows = [outside.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
        return tuple(row[0] for row in rows if row)

    return count
