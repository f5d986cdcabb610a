"""Time limits, and handlers that hang until the test lets them go."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from internals import Context
from internals.hop.time_limits import Watch
from tests.internals.hop.hanging_handlers import BATCH_LIMIT, GRACE, LIMIT, Hanging


@pytest.fixture
def released() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.set()


@pytest.fixture
def watch() -> Watch:
    return Watch(limit=LIMIT, batch_limit=BATCH_LIMIT, grace=GRACE)


@pytest.fixture
def run(store: Any, watch: Watch, released: Hanging) -> Iterator[Callable[..., Any]]:
    """Let a thread of its own handle what is due; it comes back when it is let go."""
    pool = ThreadPoolExecutor(8)

    def drain(context: Context, watch: Watch = watch) -> Any:
        return pool.submit(store.drain_with, context, watch=watch)

    yield drain
    released.set()
    pool.shutdown(wait=True)
