"""What hangs is a failure that says what was open; what ends is let be."""

import signal
import time

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.progress import Hung, coming_to_an_end


def test_what_ends_is_let_be() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with coming_to_an_end(60, lambda: "nothing"):
        pass
    assert signal.getsignal(signal.SIGUSR1) is before


def go_round() -> None:
    with coming_to_an_end(0.05, lambda: "seed 7, one delivery"):
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # it takes everything in its stride
                continue


def test_what_goes_round_is_ended_and_says_what_was_open() -> None:
    with pytest.raises(Hung, match="in 0 s; seed 7, one delivery"):
        go_round()


def test_what_waits_for_the_database_is_too(outside: psycopg.Connection[object]) -> None:
    waiting = psycopg.connect(outside.info.dsn, password=outside.info.password)
    try:
        with pytest.raises(Hung), coming_to_an_end(0.2, lambda: ""):
            waiting.execute("SELECT pg_sleep(60)")
    finally:
        waiting.close()


def test_hypothesis_tries_no_smaller_ones() -> None:
    tried = 0

    @given(st.integers())
    def hang(number: int) -> None:
        nonlocal tried
        tried += 1
        with coming_to_an_end(0.05, lambda: ""):
            while True:
                time.sleep(0.01)

    with pytest.raises(Hung):
        hang()
    assert tried == 1
