"""A database that does not answer is asked by one thread at a time, and not at once again."""

import threading
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy.exc

import internals.database.circuit_breaker
from internals.database.circuit_breaker import OutOfReach, Reach
from internals.database.errors import is_transient


class Flaky:
    """A database that answers or not, as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def open(self) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return "opened"

    def joined(self, handle: Any) -> Any:
        return handle


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which is moved by hand."""
    now = [100.0]
    monkeypatch.setattr(
        internals.database.circuit_breaker, "time", SimpleNamespace(monotonic=lambda: now[0])
    )
    return now


DOWN = psycopg.OperationalError("connection refused")


def reach_of(flaky: Any) -> Any:
    """What is opened there is a word, which no database would give."""
    return Reach(flaky)


def fail(reach: Reach) -> None:
    with pytest.raises(psycopg.OperationalError):
        reach.open()


def test_one_that_answers_is_asked_each_time(flaky: Flaky) -> None:
    reach = reach_of(flaky)
    assert [reach.open(), reach.open()] == ["opened", "opened"]
    assert reach.joined("handle") == "handle"
    assert (flaky.asked, reach.away) == (2, False)


def test_one_that_does_not_is_left_alone_for_longer_and_longer(
    flaky: Flaky, clock: list[float]
) -> None:
    reach, flaky.error = reach_of(flaky), DOWN
    pauses = []
    for _ in range(8):
        fail(reach)
        asked = flaky.asked
        with pytest.raises(OutOfReach, match="connection refused"):
            reach.open()
        assert flaky.asked == asked
        begun = clock[0]
        while reach.away:
            clock[0] += 0.125
        pauses.append(clock[0] - begun)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_once_it_answers_all_is_as_before(flaky: Flaky, clock: list[float]) -> None:
    reach, flaky.error = reach_of(flaky), DOWN
    fail(reach)
    clock[0] += 1
    flaky.error = None
    assert reach.open() == "opened"
    flaky.error = DOWN
    fail(reach)
    clock[0] += 0.25
    assert not reach.away


def test_one_thread_finds_out_and_the_others_go_on(flaky: Flaky, clock: list[float]) -> None:
    reach, flaky.error = reach_of(flaky), DOWN
    fail(reach)
    clock[0] += 1
    asking, answer = threading.Event(), threading.Event()

    def hang() -> Any:
        asking.set()
        assert answer.wait(30)
        return "opened"

    flaky.open = hang  # type: ignore[method-assign]
    thread = threading.Thread(target=reach.open)
    thread.start()
    assert asking.wait(30)
    assert reach.away
    with pytest.raises(OutOfReach):
        reach.open()
    answer.set()
    thread.join(30)
    assert not reach.away


@pytest.mark.parametrize(
    "error", [sqlalchemy.exc.TimeoutError("the pool is empty"), ValueError("a wrong URL")]
)
def test_what_says_nothing_of_the_server_keeps_nobody_away(flaky: Flaky, error: Exception) -> None:
    reach, flaky.error = reach_of(flaky), error
    for _ in range(2):
        with pytest.raises(type(error)):
            reach.open()
    assert (flaky.asked, reach.away) == (2, False)


def test_to_be_out_of_reach_is_no_failure_of_a_handler() -> None:
    assert is_transient(OutOfReach("away"))
