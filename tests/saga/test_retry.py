"""Retry: the waits double up to the cap, with full jitter, and end."""

from datetime import timedelta
from typing import Any

import pytest

from saga import DefinitionError, Retry
from saga.retry import DEFAULT_RETRY

SECOND = timedelta(seconds=1)


def test_the_wait_doubles_up_to_the_cap_and_then_it_gives_up() -> None:
    policy = Retry(attempts=6, backoff=SECOND, cap=10 * SECOND)
    assert [policy.delay(attempt, 1.0) for attempt in range(1, 8)] == [1, 2, 4, 8, 10, None, None]


@pytest.mark.parametrize("jitter", [0.0, 0.25, 0.999])
def test_the_jitter_scales_the_whole_wait(jitter: float) -> None:
    policy = Retry(backoff=8 * SECOND, cap=10 * SECOND)
    assert policy.delay(1, jitter) == 8 * jitter
    assert policy.delay(2, jitter) == 10 * jitter


def test_one_attempt_is_no_retry() -> None:
    assert Retry(attempts=1).delay(1, 0.5) is None


def test_many_attempts_do_not_overflow() -> None:
    policy = Retry(attempts=10_000, cap=timedelta(hours=1))
    assert policy.delay(9_999, 1.0) == 3600


def test_no_wait_at_all_may_be_wanted() -> None:
    assert Retry(backoff=timedelta(0)).delay(3, 1.0) == 0


@pytest.mark.parametrize("attempts", [0, -1])
def test_fewer_than_one_run_makes_no_sense(attempts: int) -> None:
    with pytest.raises(DefinitionError, match=f"attempts must be 1 or more, not {attempts}"):
        Retry(attempts=attempts)


@pytest.mark.parametrize("wrong", [{"backoff": -SECOND}, {"cap": -SECOND}])
def test_nobody_waits_for_yesterday(wrong: dict[str, timedelta]) -> None:
    with pytest.raises(DefinitionError, match="backoff and cap must not be negative"):
        Retry(**wrong)


def test_who_says_nothing_gets_five_runs() -> None:
    assert (DEFAULT_RETRY.attempts, DEFAULT_RETRY.delay(1, 1.0)) == (5, 1.0)


@pytest.mark.parametrize("wrong", [{"backoff": 1}, {"cap": 2.5}, {"attempts": "5"}])
def test_waits_are_timedeltas_and_attempts_are_counted(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Retry: .* must be"):
        Retry(**wrong)
