"""A mill that has a database of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from boundary import Runtime
from internals.database.commit_points import watch
from tests.boundary.worlds.own_database_app import Mill
from tests.conftest import make_engine


@pytest.fixture
def mill(
    runtime: Callable[..., Runtime],
    outside: psycopg.Connection[Any],
    apart: psycopg.Connection[Any],
    elsewhere: Any,
) -> Iterator[Mill]:
    engine = make_engine(elsewhere)
    yield Mill(runtime, outside, apart, engine)
    watch(None)
    engine.dispose()
