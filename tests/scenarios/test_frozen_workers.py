"""A worker that stands still keeps others waiting for a bounded time, and does nothing twice."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from boundary import Settings
from tests.scenarios import dairy
from tests.scenarios.dairy import BUTTER, LETTER, Batch, Churned
from tests.scenarios.running_application import House

#: Seconds, of the 60 that there are by default.
BOUND = "2"


class Dairy(House):
    application = dairy
    worker = "dairy_worker"

    def entries(self) -> dict[int, list[str]]:
        """What the ledger holds, sorted; a double effect is there twice."""
        found: dict[int, list[str]] = {}
        for n, what in self.query("SELECT n, what FROM ledger ORDER BY n, what"):
            found.setdefault(n, []).append(what)
        return found


@pytest.fixture
def dairy_(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Dairy]:
    opened = Dairy(empty_settings, start_group, eventually)
    every = dairy.make_runtime(empty_settings)
    every.subscribe()
    every.close()
    yield opened
    opened.close()


def frozen(group: Any) -> list[psutil.Process]:
    """The processes of a worker that are stopped."""
    found = psutil.Process(group.pid).children(recursive=True)
    return [process for process in found if process.status() == psutil.STATUS_STOPPED]


def in_transaction(dairy_: Dairy, pid: int) -> bool:
    """Whether a session of this process is idle in a transaction."""
    return bool(
        dairy_.query(
            "SELECT FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' "
            "AND application_name LIKE 'saga %%' AND application_name LIKE %s",
            f"% {pid}",
        )
    )


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("hop before", "ended its transaction"),
        ("hop after", ""),
        ("relay before", ""),
        ("leased before", ""),
        ("handler", "ended its transaction"),
    ],
)
def test_others_go_on_without_a_frozen_worker_and_nothing_is_done_twice(
    dairy_: Dairy, at: str, told: str
) -> None:
    frosty = dairy_.start_worker(processes=1, FREEZE_AT=at, SAGA_FROZEN_AFTER=BOUND)
    dairy_.start(BUTTER, *(Batch(n=n) for n in range(10)))
    dairy_.wait_until(lambda: frozen(frosty), "a worker to freeze")
    dairy_.start_worker(processes=1, SAGA_FROZEN_AFTER=BOUND)
    dairy_.start(BUTTER, *(Batch(n=n) for n in range(10, 20)))
    # The lease of a call that was under way is the handler's own, of a minute.
    done = 10 if at == "leased before" else 20
    dairy_.wait_until(lambda: dairy_.over() >= done, "others to go on")
    for process in frozen(frosty):
        dairy_.wait_until(lambda pid=process.pid: not in_transaction(dairy_, pid), "its end")  # type: ignore[misc]
        os.kill(process.pid, signal.SIGCONT)
    if told:
        dairy_.wait_until(lambda: told in frosty.log(), "the frozen one to say what happened")
    dairy_.start(BUTTER, *(Batch(n=n) for n in range(20, 30)))
    dairy_.wait_until_over()
    assert dairy_.statuses() == {"completed": 30}
    assert dairy_.entries() == {n: ["churned", "inspected", "sold"] for n in range(30)}
    dairy_.check_history()


def test_a_process_keeps_threads_while_a_frozen_one_holds_an_ordering_key(dairy_: Dairy) -> None:
    frosty = dairy_.start_worker(processes=1, FREEZE_AT="hop before", SAGA_FROZEN_AFTER="300")
    dairy_.start(BUTTER, Batch(n=1))
    dairy_.wait_until(lambda: frozen(frosty), "a worker to freeze")
    dairy_.start_worker(processes=1, threads=2, SAGA_FROZEN_AFTER="300")
    for n in range(101, 401, 10):
        dairy_.start(BUTTER, Batch(n=n))  # the same vat
        dairy_.start(LETTER, Batch(n=n))
    posted = "status = 'completed' AND name = 'letter'"
    dairy_.wait_until(lambda: dairy_.count("saga", posted) == 30, "letters to be posted")
    assert not dairy_.count("saga", "status = 'completed' AND name = 'butter'")


def test_what_a_host_does_waits_no_longer_than_the_bound(dairy_: Dairy) -> None:
    frosty = dairy_.start_worker(processes=1, FREEZE_AT="hop before", SAGA_FROZEN_AFTER=BOUND)
    [id] = dairy_.start(BUTTER, Batch(n=1))
    dairy_.wait_until(lambda: frozen(frosty), "a worker to freeze")
    with dairy_.runtime.engine.begin() as connection:
        event = dairy_.runtime.publish(connection, Churned(n=2, vat="1"))
        dairy_.runtime.cancel(connection, id, reason="too late", actor="ann")
    assert dairy_.count("outbox", f"kind = 'saga.cancelled' OR id = '{event}'") == 2
