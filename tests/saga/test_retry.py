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
def test_nobody_waits_for_yesterday(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="backoff and cap must not be negative"):
        Retry(**wrong)


def test_who_says_nothing_gets_five_runs() -> None:
    assert (DEFAULT_RETRY.attempts, DEFAULT_RETRY.delay(1, 1.0)) == (5, 1.0)


@pytest.mark.parametrize("wrong", [{"backoff": 1}, {"cap": 2.5}, {"attempts": "5"}])
def test_waits_are_timedeltas_and_attempts_are_counted(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"Retry: .* must be"):
        Retry(**wrong)


class Busy(Exception):
    """A partner asks for patience."""


class Closed(Busy):
    """A partner that will not be patient for long."""


class Wrong(ValueError):
    """What no second run makes right."""


def test_what_is_never_tried_again_is_given_up_at_once() -> None:
    policy = Retry(attempts=9, never=(ValueError,))
    assert policy.delay(1, 1.0, ValueError()) is None
    assert policy.delay(1, 1.0, Wrong()) is None
    assert policy.delay(1, 1.0, KeyError()) == 1.0
    assert policy.delay(1, 1.0) == 1.0


def test_what_is_always_tried_again_is_never_given_up() -> None:
    policy = Retry(attempts=2, cap=4 * SECOND, always=(Busy,))
    assert policy.delay(2, 1.0, Busy()) == 2.0
    assert policy.delay(1_000, 1.0, Closed()) == 4.0
    assert policy.delay(2, 1.0, ValueError()) is None


@pytest.mark.parametrize(
    ("never", "always", "given_up"),
    [((Exception,), (Busy,), False), ((Closed,), (Busy,), True), ((Busy,), (Closed,), False)],
)
def test_the_class_that_is_nearer_to_the_exception_wins(
    never: Any, always: Any, given_up: bool
) -> None:
    assert (Retry(never=never, always=always).delay(9, 1.0, Closed()) is None) is given_up


def test_classes_are_known_by_their_names() -> None:
    policy = Retry(never=(Wrong, "builtins.KeyError"))
    assert policy.never == (f"{__name__}.Wrong", "builtins.KeyError")
    assert policy == Retry(never=(f"{__name__}.Wrong", KeyError))
    assert policy.delay(1, 1.0, KeyError()) is None


def test_a_class_in_both_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"Retry: builtins\.KeyError is in never and in alw"):
        Retry(never=(KeyError,), always=("builtins.KeyError",))


@pytest.mark.parametrize("wrong", [ValueError, [ValueError], "ValueError"])
def test_classes_are_given_in_a_tuple(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="Retry: never must be a tuple of exception classes"):
        Retry(never=wrong)


@pytest.mark.parametrize("wrong", [int, 404, KeyboardInterrupt, ValueError()])
def test_nothing_else_is_a_class_of_exceptions(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="Retry: always takes exception classes or their na"):
        Retry(always=(wrong,))


def test_a_step_changes_the_numbers_and_adds_its_classes() -> None:
    handler = Retry(attempts=9, never=(Wrong, Closed), always=(Busy,))
    assert handler.overridden_by(None) is handler
    both = handler.overridden_by(Retry(attempts=2, never=(KeyError,)))
    assert both == Retry(attempts=2, never=(KeyError, Wrong, Closed), always=(Busy,))


def test_where_a_step_and_a_handler_differ_about_a_class_the_step_wins() -> None:
    handler = Retry(never=(Wrong,), always=(Busy,))
    assert handler.overridden_by(Retry(never=(Busy,))) == Retry(never=(Busy, Wrong))
    assert handler.overridden_by(Retry(always=(Wrong,))) == Retry(always=(Wrong, Busy))


def test_no_wait_is_longer_than_five_minutes_unless_it_is_said() -> None:
    assert Retry(attempts=99).delay(50, 1.0) == 300


def test_a_cap_of_nothing_is_no_wait() -> None:
    assert Retry(cap=timedelta(0)).delay(3, 1.0) == 0
