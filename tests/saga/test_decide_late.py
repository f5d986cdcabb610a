"""`decide` and what is heard of a step that was given up: its data, and its errors (rule 8)."""

from typing import Any

import pytest

from saga import Verdict
from saga.testing import Story
from tests.saga.voyage import FLIGHT, HOTEL, MINUTE, Undo, Voyage, begin, step


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
