"""Handlers that hang in real worker processes: others go on, and so does the process, or a new one."""

from collections.abc import Callable
from typing import Any

import pytest

from boundary import Settings
from tests.boundary.worlds.hanging_app import TUNNEL, Tunnel

pytestmark = pytest.mark.timeout(240)

#: Short ones, so that a test ends soon.
LIMITS = {"MOLES": "1", "SAGA_HANDLER_LIMIT": "1.5", "SAGA_BATCH_LIMIT": "0.5"}


@pytest.fixture
def moles(
    runtime: Any, settings: Settings, start_group: Any, outside: Any
) -> Callable[..., tuple[Any, Callable[[str], list[Any]]]]:
    """Start tunnels of these ways and workers for them; returns the workers, and what reads."""
    outside.execute("CREATE TABLE dug (n int NOT NULL)")
    host = runtime([TUNNEL])

    def start(
        ways: list[str], limits: dict[str, str] = LIMITS, **options: Any
    ) -> tuple[Any, Callable[[str], list[Any]]]:
        with host.engine.begin() as connection:
            tunnels = [Tunnel(number=n, way=way) for n, way in enumerate(ways)]
            host.start_many(connection, TUNNEL, tunnels)
        group = start_group(
            "tests.boundary.worlds.hanging_app:broker", settings, environment=limits, **options
        )
        return group, lambda query: list(outside.execute(query).fetchall())

    return start


_STATUSES = "SELECT status, count(*)::int FROM saga GROUP BY 1 ORDER BY 1"


def test_whatever_way_they_hang_they_fail_by_name_and_the_others_go_on(
    moles: Any, eventually: Any
) -> None:
    ways = ["listen", "spin", "sleep", "query", "swallow"]
    innocent = 40
    # Each of three that hang for good keeps a thread in each of its attempts.
    group, rows = moles([*ways, *[""] * innocent], threads=24)
    eventually(lambda: ("completed", innocent) in rows(_STATUSES), 90, "the innocents")
    eventually(lambda: rows(_STATUSES) == [("completed", innocent), ("stuck", 5)], 90, "the others")
    parked = rows("SELECT attempts, last_error FROM inbox WHERE state = 'parked'")
    assert parked == [(2, "TookTooLong: took longer than its limit of 1.5 s")] * 5
    assert sorted(n for (n,) in rows("SELECT n FROM dug")) == list(range(5, 5 + innocent))
    counted = rows("SELECT count(*)::int FROM inbox WHERE state = 'done' AND attempts > 0")
    assert counted == [(0,)]
    assert group.running
    assert "its thread" in group.log()
    assert "_swallow" in group.log()


def test_a_slow_handler_within_its_limit_is_done_and_costs_nobody_else_an_attempt(
    moles: Any, eventually: Any
) -> None:
    _, rows = moles([*[""] * 30, "slow1.0", *[""] * 30], threads=2)
    eventually(lambda: rows(_STATUSES) == [("completed", 61)], 90, "all")
    assert sorted(n for (n,) in rows("SELECT n FROM dug")) == list(range(61))


def test_a_process_with_one_thread_lives_though_slow_calls_hold_up_their_batches(
    moles: Any, eventually: Any
) -> None:
    """A call of C cannot be ended, and is within the handler's own limit."""
    limits = {"MOLES": "1", "SAGA_HANDLER_LIMIT": "60", "SAGA_BATCH_LIMIT": "0.2"}
    group, rows = moles(["", "slow2.0", "", "slow2.0", "slow2.0"], limits, threads=1)
    eventually(lambda: rows(_STATUSES) == [("completed", 5)] or not group.running, 90, "all")
    assert rows(_STATUSES) == [("completed", 5)]
    assert sorted(n for (n,) in rows("SELECT n FROM dug")) == list(range(5))
    assert rows("SELECT count(*)::int FROM inbox WHERE last_error LIKE '%limit%'") == [(0,)]


def test_a_process_whose_threads_hang_ends_so_that_its_supervisor_starts_another(
    moles: Any, eventually: Any
) -> None:
    group, rows = moles(["lock", "listen", *[""] * 10], threads=2)
    eventually(lambda: not group.running, 90, "the process to end")
    assert "threads hang in handlers: this process ends" in group.log()
    assert group.stop() == 70
    # What it had claimed is free.
    [(locked,)] = rows(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
        "AND query LIKE '%dug%'"
    )
    assert locked == 0
