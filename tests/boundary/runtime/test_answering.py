"""Answering without doorbells: at once, in threads of its own, and only in a worker."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from boundary.doorbell.circuit_breaker import Breaker
from boundary.runtime.answering import Answering
from internals import Context, Work
from saga import Command, Saga, Step
from saga.backoff import Backoff


class Answers:
    """Notes who is answered."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.broken: set[str] = set()
        self.answering = Answering(self._answer)

    def _answer(self, consumer: str) -> None:
        self.noted.append(consumer)
        if consumer in self.broken:
            raise ZeroDivisionError


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers()
    yield made
    made.answering.stop()
    made.answering.join()


def test_a_process_without_a_worker_answers_nobody(answers: Answers) -> None:
    answers.answering.ask(["mill"])
    assert not answers.answering.running
    answers.answering.start(1)
    answers.answering.ask(["bakery"])
    answers.answering.stop()
    answers.answering.join()
    assert set(answers.noted) <= {"bakery"}


def test_whoever_is_asked_for_is_answered(answers: Answers, eventually: Any) -> None:
    answers.answering.start(2)
    for n in range(20):
        answers.answering.ask([f"c{n}", f"d{n}"])
    eventually(lambda: len(answers.noted) == 40)


def test_one_that_takes_long_keeps_nobody_else_waiting(eventually: Any) -> None:
    leave = threading.Event()
    noted: list[str] = []

    def answer(consumer: str) -> None:
        if consumer == "slow":
            assert leave.wait(60)
        noted.append(consumer)

    answering = Answering(answer)
    answering.start(2)
    answering.ask(["slow"])
    answering.ask(["quick"])
    eventually(lambda: noted == ["quick"])
    answering.stop()
    leave.set()
    answering.join()  # what was under way is finished
    assert noted == ["quick", "slow"]


def test_one_whose_answer_raises_is_left_alone_for_a_while(
    answers: Answers, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boundary.runtime.answering._BACKOFF", Backoff(3600.0, cap=3600.0))
    answers.broken = {"mill"}
    answers.answering.start(1)
    answers.answering.ask(["mill"])
    answers.answering.ask(["bakery"])
    eventually(lambda: answers.noted == ["mill", "bakery"])
    answers.answering.ask(["mill", "field"])
    eventually(lambda: answers.noted == ["mill", "bakery", "field"])


def test_of_many_who_ask_after_a_failure_one_tries_again() -> None:
    breaker = Breaker(0.0)
    assert breaker.may_try("bell")
    assert breaker.failed("bell")
    assert not breaker.failed("bell")
    assert breaker.overdue() == breaker.failing() == {"bell"}
    assert breaker.may_try("bell")
    breaker = Breaker(3600.0)
    breaker.failed("bell")
    assert not breaker.may_try("bell")
    assert (breaker.overdue(), breaker.failing()) == (frozenset(), {"bell"})  # type: ignore[comparison-overlap]
    assert breaker.worked("bell")
    assert breaker.may_try("bell")


class Grist(BaseModel):
    pass


class Grind(Command, kind="mill.grind"):
    pass


def test_what_cannot_be_rung_is_answered_by_the_worker_that_sent_it(
    runtime: Any, outside: Any, eventually: Any
) -> None:
    """Not by its relay, which is not there in this test."""
    mill = Context("mill")

    @mill.handles(Grind)
    def grind(command: Grind, work: Work) -> None: ...

    saga = Saga("grist", Grist, steps=(Step("grind", lambda _: Grind()),))
    one = runtime([saga], [mill], redis_url=SecretStr("redis://127.0.0.1:1/0"))
    one._worker_loop.answering.start(1)
    with one.engine.begin() as connection:
        one.start(connection, saga, Grist())
    try:
        eventually(lambda: outside.execute("SELECT status FROM saga").fetchone() == ("completed",))
    finally:
        one._worker_loop.answering.stop()
        one._worker_loop.answering.join()
