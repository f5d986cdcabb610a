"""`decide` and what is heard of a step that was given up: its data, and its errors (rule 8)."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from saga import Parallel, Phase, Verdict
from saga.testing import Story
from tests.saga.decide.timed_sagas import (
    CAR,
    FLIGHT,
    HOTEL,
    MINUTE,
    Order,
    Undo,
    Voyage,
    begin,
    step,
)


def if_booked(voyage: Voyage) -> Undo | None:
    """Only who knows the booking can undo it."""
    return Undo(step="hotel") if "hotel" in voyage.kept else None


def by_what_is_known(voyage: Voyage) -> Undo:
    return Undo(step=" and ".join(voyage.kept))


class Late:
    """A hotel in doubt, and the answers of its command."""

    def __init__(self, hotel: Any = HOTEL) -> None:
        self.begun = begin(FLIGHT, hotel).done("flight")
        self.doubtful = self.begun.timed_out("hotel").not_revoked("hotel")
        self.yes = self.begun.done("hotel").consumed[-1]

    def fault(self, **how: bool) -> Any:
        return self.begun.faulted("hotel", "boom", **how).consumed[-1]


# The data of a late success


def test_what_could_not_be_undone_without_a_late_success_is_undone_with_it() -> None:
    late = Late(step("hotel", timeout=MINUTE, compensation=if_booked))
    undoing = late.doubtful.expect(Undo(step="flight"))
    closed = undoing.done("flight").expect_compensated()
    opened = closed._hear(late.yes).expect(Undo(step="hotel"))
    opened.done("hotel").expect_compensated()
    undoing._hear(late.yes).done("flight").expect(Undo(step="hotel"))


def test_what_is_undone_again_is_undone_with_what_the_late_success_tells() -> None:
    late = Late(step("hotel", timeout=MINUTE, compensation=by_what_is_known))
    undoing = late.doubtful.expect(Undo(step="flight"))
    for story in (undoing, undoing.done("hotel")):
        told = story._hear(late.yes)
        assert told.data.kept == ("flight", "hotel")
    undoing._hear(late.yes).done("hotel").expect(Undo(step="flight and hotel"))
    closed = undoing.done("hotel").done("flight")
    closed._hear(late.yes).expect(Undo(step="flight and hotel")).done("hotel").expect_compensated()


# A late error


LATE = Late()
UNDONE = LATE.doubtful.done("hotel").done("flight").expect_compensated()
LEFT_SOMETHING = [{"external": True}, {"downstream": True}]


def verdict(story: Story[Voyage]) -> Verdict:
    assert story.decision is not None
    return story.decision.verdict


@pytest.mark.parametrize("how", LEFT_SOMETHING)
def test_an_error_that_may_have_left_something_after_it_was_undone_undoes_it_again(
    how: dict[str, bool],
) -> None:
    opened = UNDONE._hear(LATE.fault(**how)).expect(Undo(step="hotel"))
    assert opened.state.status == "compensating"
    opened.done("hotel").expect_nothing().expect_compensated()


@pytest.mark.parametrize("how", LEFT_SOMETHING)
def test_while_it_is_undone_it_is_undone_once_more(how: dict[str, bool]) -> None:
    story = LATE.doubtful._hear(LATE.fault(**how)).expect_nothing()
    story = story.done("hotel").expect(Undo(step="hotel")).done("hotel").expect(Undo(step="flight"))
    story.done("flight").expect_compensated()


@pytest.mark.parametrize("how", LEFT_SOMETHING)
def test_a_success_that_comes_even_later_is_undone_too(how: dict[str, bool]) -> None:
    closed = UNDONE._hear(LATE.fault(**how)).done("hotel").expect_compensated()
    closed._hear(LATE.yes).expect(Undo(step="hotel")).done("hotel").expect_compensated()


def test_an_error_of_its_own_handler_left_nothing() -> None:
    assert verdict(UNDONE._hear(LATE.fault()).expect_nothing()) is Verdict.STALE
    assert verdict(LATE.doubtful._hear(LATE.fault())) is Verdict.STALE


def test_what_has_no_compensation_is_not_undone() -> None:
    late = Late(step("hotel", undo=False, timeout=MINUTE))
    closed = late.doubtful.done("flight").expect_compensated()
    for how in LEFT_SOMETHING:
        assert verdict(closed._hear(late.fault(**how))) is Verdict.STALE


# What is told again, and what was under way


@pytest.mark.parametrize("how", LEFT_SOMETHING)
def test_an_error_that_is_told_again_undoes_nothing_again(how: dict[str, bool]) -> None:
    fault = LATE.fault(**how)
    closed = UNDONE._hear(fault).done("hotel").expect_compensated()
    assert verdict(closed._hear(fault).expect_compensated()) is Verdict.STALE


@pytest.mark.parametrize("how", LEFT_SOMETHING)
def test_also_where_the_step_was_given_up_because_of_it(how: dict[str, bool]) -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").rejected("car", "no")
    story = story.faulted("hotel", "boom", **how)
    fault = story.consumed[-1]
    if "external" in how:
        story = story.revoked("hotel", started=True)
    answer = story.consumed[-1]
    closed = story.expect(Undo(step="hotel")).done("hotel").done("flight").expect_compensated()
    for again in (fault, answer):
        assert verdict(closed._hear(again).expect_compensated()) is Verdict.STALE
    twice = replace(fault, id=uuid4())  # the same delivery, parked once more
    if "external" in how:  # its second run may have had its effect after it was undone
        closed._hear(twice).expect(Undo(step="hotel"))
    else:
        assert verdict(closed._hear(twice)) is Verdict.STALE


def test_a_call_that_was_under_way_and_failed_after_it_was_undone_undoes_it_again() -> None:
    order = LATE.begun.orders[LATE.begun.state.command_id("hotel", Phase.COMMANDED, 1)]
    opened = UNDONE.revoked("hotel", started=True, order=order).expect(Undo(step="hotel"))
    failed = opened.consumed[-1]
    closed = opened.done("hotel").expect_compensated()
    assert verdict(closed._hear(failed).expect_compensated()) is Verdict.STALE
    UNDONE.revoked("hotel", order=order).expect_nothing().expect_compensated()


def test_a_late_no_of_a_second_try_says_nothing_of_the_first() -> None:
    begun = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight")
    second = begun.faulted("hotel", "cut", external=True).replayed().expect(Order(step="hotel"))
    no = second.rejected("hotel", "no").consumed[-1]
    doubtful = second.timed_out("hotel").not_revoked("hotel").not_revoked("car")
    told = doubtful._hear(no).expect_nothing()
    told.rejected("car", "no").expect(Undo(step="hotel")).done("hotel").expect(Undo(step="flight"))
