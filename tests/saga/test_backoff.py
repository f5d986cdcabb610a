"""Waits double up to a cap, and a share of each is random."""

import pytest

from saga.backoff import Backoff


def test_they_double_up_to_the_cap() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.longest(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_cap_below_the_first_is_kept() -> None:
    assert Backoff(2.0, 1.0).longest(1) == 1.0


def test_after_however_many_failures_it_is_the_cap() -> None:
    assert Backoff(0.1, 60.0).longest(10**9) == 60.0


@pytest.mark.parametrize(
    ("jitter", "shortest", "middle"), [(0.0, 4.0, 4.0), (0.5, 2.0, 3.0), (1.0, 0.0, 2.0)]
)
def test_what_is_drawn_decides_the_random_share(
    jitter: float, shortest: float, middle: float
) -> None:
    backoff = Backoff(1.0, 4.0, jitter)
    assert (backoff.wait(3, 0.0), backoff.wait(3, 0.5), backoff.wait(3, 1.0)) == (
        shortest,
        middle,
        4.0,
    )
