"""Coalescing: which threads of a process answer one consumer's doorbells."""

import threading
from collections.abc import Callable

import pytest

from internals.hop.coalescing import Coalescing

#: Nothing is slow, and everything is.
PATIENT, IMPATIENT = 3600.0, 0.0


def silent() -> None:
    raise AssertionError("nobody is to be rung")


def test_who_comes_while_another_answers_leaves_it_to_that_one_which_looks_once_more() -> None:
    coalescing = Coalescing(PATIENT)
    looks: list[int | None] = []

    def once() -> int:
        looks.append(coalescing.run(silent, silent) if len(looks) < 2 else None)  # type: ignore[arg-type]
        return 1

    assert coalescing.run(once, silent) == 3
    assert looks == [0, 0, None]


def test_after_it_the_next_one_answers() -> None:
    coalescing = Coalescing(PATIENT)
    assert [coalescing.run(lambda: 1, silent) for _ in range(3)] == [1, 1, 1]


def test_while_a_hop_is_slow_others_help() -> None:
    coalescing = Coalescing(IMPATIENT)
    assert coalescing.run(lambda: 1 + coalescing.run(lambda: 1, silent), silent) == 2


def test_each_hop_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("internals.hop.coalescing.time.monotonic", lambda: clock[0])
    coalescing = Coalescing(patience=2.0)
    others: list[int] = []

    def once() -> int:
        if not others:
            clock[0] += 1.9
            coalescing.hopping()
            clock[0] += 1.9
            others.append(coalescing.run(lambda: 1, silent))
            clock[0] += 0.2
            others.append(coalescing.run(lambda: 1, silent))
        return 0

    coalescing.run(once, silent)
    assert others == [0, 2]  # its own, and what the first one was rung for


def test_what_was_rung_for_is_rung_again_where_the_answer_fails() -> None:
    coalescing, rung = Coalescing(PATIENT), []

    def once() -> int:
        coalescing.run(silent, silent)  # type: ignore[arg-type]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        coalescing.run(once, lambda: rung.append(1))
    assert rung == [1]
    assert coalescing.run(lambda: 1, silent) == 1


def test_nobody_is_rung_where_nobody_came(monkeypatch: pytest.MonkeyPatch) -> None:
    coalescing = Coalescing(PATIENT)
    with pytest.raises(ZeroDivisionError):
        coalescing.run(lambda: 1 // 0, silent)


def test_after_a_while_other_consumers_get_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("internals.hop.coalescing._LONGEST", -1.0)
    coalescing, rung = Coalescing(PATIENT), []

    def once() -> int:
        return 1 + coalescing.run(silent, silent)  # type: ignore[arg-type]

    assert coalescing.run(once, lambda: rung.append(1)) == 1
    assert rung == [1]


def test_no_ring_is_lost_among_many_threads() -> None:
    """Whoever adds something and rings is answered by some thread, though all come at once."""
    coalescing, lock = Coalescing(PATIENT), threading.Lock()
    waiting = answered = 0

    def once() -> int:
        nonlocal waiting, answered
        with lock:
            taken, waiting = waiting, 0
            answered += taken
        return taken

    def add_and_ring() -> None:
        nonlocal waiting
        for _ in range(500):
            with lock:
                waiting += 1
            coalescing.run(once, silent)

    threads: list[threading.Thread] = [threading.Thread(target=add_and_ring) for _ in range(8)]
    run_all(threads, threading.Thread.start)
    run_all(threads, threading.Thread.join)
    assert (waiting, answered) == (0, 4000)


def run_all(threads: list[threading.Thread], do: Callable[[threading.Thread], None]) -> None:
    for thread in threads:
        do(thread)
