"""`decide` when an outcome comes late (rule 8), and what an error does that is forgiven (rule 7)."""

from dataclasses import replace
from typing import Any

import pytest

from saga import Direction, Parallel, Phase, Verdict
from saga.testing import Story
from tests.saga.decide.timed_sagas import (
    CAR,
    FLIGHT,
    HOTEL,
    MINUTE,
    PAYMENT,
    Declined,
    Ordered,
    Undo,
    Voyage,
    begin,
    phase,
    step,
)


class Late:
    """A story of a hotel that was given up, and the answers of its command, that come late."""

    def __init__(self, hotel: Any = HOTEL, **changes: Any) -> None:
        self.begun = begin(FLIGHT, hotel, **changes).done("flight")
        self.revoking = self.begun.timed_out("hotel")
        self.doubtful = self.revoking.not_revoked("hotel")

    def yes(self, story: Story[Voyage], **how: Any) -> Story[Voyage]:
        return story._hear(self.begun.done("hotel", **how).consumed[-1])

    def no(self, story: Story[Voyage], **how: Any) -> Story[Voyage]:
        return story._hear(self.begun.rejected("hotel", "no", **how).consumed[-1])


LATE = Late()


def verdict(story: Story[Voyage]) -> Verdict:
    assert story.decision is not None
    return story.decision.verdict


# A late success


def test_before_the_answer_whether_it_was_taken_back_it_is_undone_once() -> None:
    story = LATE.yes(LATE.revoking).expect(Undo(step="hotel"))
    assert story.state.data.kept == ("flight", "hotel")
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_the_answer_after_that_means_nothing() -> None:
    late_answer = LATE.doubtful.consumed[-1]
    story = LATE.yes(LATE.revoking)._hear(late_answer).expect_nothing()
    assert verdict(story) is Verdict.STALE
    story.done("hotel").done("flight").expect_compensated()


def test_in_doubt_it_is_undone_once() -> None:
    begun = begin(Parallel(HOTEL, CAR))
    yes = begun.done("hotel").consumed[-1]
    doubtful = begun.timed_out("hotel").not_revoked("hotel")
    assert phase(doubtful, "hotel") == "in_doubt"
    known = doubtful._hear(yes).expect_nothing()
    assert (phase(known, "hotel"), known.data.kept) == ("done", ("hotel",))
    known = known.again().revoked("car").expect(Undo(step="hotel"))
    known.done("hotel").expect_compensated()


def test_while_it_is_undone_it_is_undone_once_more_with_a_new_generation() -> None:
    story = LATE.yes(LATE.doubtful).expect_nothing().again()
    first = story.state.command_id("hotel", Phase.COMPENSATING, 1)
    story = story.done("hotel").expect(Undo(step="hotel"))
    assert story.sent[0].id == story.state.command_id("hotel", Phase.COMPENSATING, 2) != first
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_after_it_was_undone_it_is_undone_once_more_after_the_one_that_is_out() -> None:
    story = LATE.yes(LATE.doubtful.done("hotel")).expect_nothing()
    story = story.done("flight").expect(Undo(step="hotel")).done("hotel")
    story.expect_nothing().expect_compensated()


def test_a_compensated_saga_opens_compensates_and_closes() -> None:
    closed = LATE.doubtful.done("hotel").done("flight").expect_compensated()
    opened = LATE.yes(closed).expect(Undo(step="hotel"))
    assert opened.state.status == "compensating"
    closed = opened.again().done("hotel").expect_nothing().expect_compensated()
    assert verdict(LATE.yes(closed)) is Verdict.STALE


def test_a_compensation_that_fails_then_leaves_it_stuck() -> None:
    closed = LATE.doubtful.done("hotel").done("flight")
    stuck = LATE.yes(closed).faulted("hotel", "boom").expect_stuck("boom")
    stuck.replayed().expect(Undo(step="hotel")).done("hotel").expect_compensated()


@pytest.mark.parametrize("undo", [True, False])
def test_with_nothing_to_undo_it_is_only_recorded(undo: bool) -> None:
    late = Late(step("hotel", undo=undo, timeout=MINUTE), data=Voyage(nothing_to_undo=("hotel",)))
    closed = late.doubtful.expect(Undo(step="flight")).done("flight").expect_compensated()
    story = late.yes(closed).expect_nothing().expect_compensated()
    assert not story.state.steps["hotel"].again
    late.yes(story).expect_nothing().expect_compensated()


def test_a_step_that_was_taken_back_has_no_late_success() -> None:
    story = LATE.revoking.revoked("hotel").done("flight")
    assert verdict(LATE.yes(story)) is Verdict.STALE


# Repeated outcomes


def test_a_repeated_outcome_of_a_step_that_is_known_undoes_nothing_again() -> None:
    story = LATE.begun.done("hotel")
    assert verdict(LATE.yes(story)) is Verdict.STALE
    twice = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel")
    yes = twice.consumed[-1]
    undone = twice.rejected("car", "no").done("hotel")
    for story in (undone, undone.done("flight")):
        assert verdict(story._hear(yes)) is Verdict.STALE


def test_a_repeated_answer_of_the_compensation_is_no_late_success() -> None:
    story = LATE.doubtful.done("hotel")
    undone = story.consumed[-1]
    assert verdict(story._hear(undone)) is Verdict.STALE
    closed = story.done("flight")
    assert verdict(closed._hear(undone).expect_compensated()) is Verdict.STALE
    LATE.yes(closed._hear(undone)).expect(Undo(step="hotel"))


# A late rejection


@pytest.mark.parametrize("downstream", [True, False])
def test_before_the_answer_a_rejection_is_one_as_ever(downstream: bool) -> None:
    story = LATE.no(LATE.revoking, downstream=downstream)
    story.expect(Undo(step="hotel" if downstream else "flight"))


def test_in_doubt_a_rejection_of_its_own_handler_leaves_nothing_to_undo() -> None:
    begun = begin(Parallel(HOTEL, CAR))
    doubtful = begun.timed_out("hotel").not_revoked("hotel")
    no = begun.rejected("hotel", "no").consumed[-1]
    story = doubtful._hear(no).expect_nothing()
    assert phase(story, "hotel") == "rejected"
    story.revoked("car").expect_nothing().expect_compensated()
    no = begun.rejected("hotel", "no", downstream=True).consumed[-1]
    doubtful._hear(no).revoked("car").expect(Undo(step="hotel"))


def test_later_it_is_only_recorded() -> None:
    undoing = LATE.no(LATE.doubtful).expect_nothing()
    assert not undoing.state.steps["hotel"].doubt
    undoing.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    closed = LATE.doubtful.done("hotel").done("flight")
    LATE.no(closed).expect_nothing().expect_compensated()


def test_but_from_further_down_it_left_something_and_is_undone_once_more() -> None:
    undoing = LATE.no(LATE.doubtful, downstream=True).expect_nothing().again()
    undoing = undoing.done("hotel").expect(Undo(step="hotel")).done("hotel")
    undoing.expect(Undo(step="flight")).done("flight").expect_compensated()
    closed = LATE.doubtful.done("hotel").done("flight")
    opened = LATE.no(closed, downstream=True).expect(Undo(step="hotel")).again()
    opened.done("hotel").expect_compensated()


def test_a_late_error_is_only_recorded() -> None:
    fault = LATE.begun.faulted("hotel", "boom").consumed[-1]
    assert verdict(LATE.doubtful._hear(fault)) is Verdict.STALE


def test_a_success_of_an_event_comes_late_as_well() -> None:
    hotel = replace(HOTEL, until=Ordered, rejected_by=Declined)
    begun = begin(hotel)
    yes, no = (begun.when(event()).consumed[-1] for event in (Ordered, Declined))
    closed = begun.timed_out("hotel").not_revoked("hotel").done("hotel").expect_compensated()
    closed._hear(yes).expect(Undo(step="hotel")).done("hotel").expect_compensated()
    closed._hear(no)._hear(yes).expect_nothing().expect_compensated()


# An error that is forgiven


FORGIVING = replace(HOTEL, on_fault="compensate")


def test_an_error_of_the_commands_own_handler_left_nothing() -> None:
    story = begin(FLIGHT, FORGIVING).done("flight").faulted("hotel", "boom")
    story.expect(Undo(step="flight")).done("flight").expect_compensated()
    assert phase(story, "hotel") == "rejected"
    assert "boom" in (story.state.reason or "")


def test_what_is_parked_then_is_not_delivered_again_by_anyone() -> None:
    for downstream in (False, True):
        story = begin(FLIGHT, FORGIVING).done("flight")
        story = story.faulted("hotel", "boom", downstream=downstream)
        assert story.decision is not None
        assert story.decision.supersede == (story.consumed[-1].causation_id,)
    kept = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom").decision
    assert kept is not None
    assert kept.supersede == ()


def test_an_error_further_down_comes_after_hops_that_are_undone() -> None:
    story = begin(FLIGHT, FORGIVING).done("flight")
    yes = story.done("hotel").consumed[-1]
    story = story.faulted("hotel", "boom", downstream=True).expect(Undo(step="hotel"))
    story.done("hotel").expect(Undo(step="flight"))
    story._hear(yes).expect_nothing().done("hotel").expect(Undo(step="hotel"))


def test_an_error_of_an_external_call_leaves_it_in_doubt() -> None:
    story = begin(Parallel(FORGIVING, CAR)).faulted("hotel", "cut", external=True)
    assert phase(story, "hotel") == "in_doubt"
    story.revoked("car").expect(Undo(step="hotel")).done("hotel").expect_compensated()


def test_an_error_while_it_is_taken_back_is_forgiven_too() -> None:
    story = begin(Parallel(FORGIVING, CAR)).rejected("car", "no").faulted("hotel", "boom")
    story.expect_nothing().expect_compensated()


def test_a_compensation_is_not_forgiven_nor_what_comes_after_the_pivot() -> None:
    undoing = begin(FORGIVING, FLIGHT).done("hotel").rejected("flight", "no")
    undoing.faulted("hotel", "boom").expect_stuck("boom")
    late = replace(FORGIVING, compensation=None)
    begin(PAYMENT, late).done("payment").faulted("hotel", "boom").expect_stuck("boom")


# A compensation that fails


def test_the_other_compensations_stop() -> None:
    story = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel").rejected("car", "no")
    story.faulted("hotel", "boom").expect_nothing().expect_stuck("boom")


def test_or_go_on_and_it_ends_stuck() -> None:
    story = begin(FLIGHT, HOTEL, CAR, on_compensation_fault="go_on")
    story = story.done("flight").done("hotel").rejected("car", "no").faulted("hotel", "boom")
    story = story.expect(Undo(step="flight")).done("flight").expect_nothing()
    story.expect_stuck("boom").done("hotel").expect_compensated()
    story.replayed().expect(Undo(step="hotel")).done("hotel").expect_compensated()
    story.skipped("hotel", "by hand").expect_compensated()


def test_even_if_all_of_them_are_refused() -> None:
    story = begin(FLIGHT, HOTEL, CAR, on_compensation_fault="go_on")
    story = story.done("flight").done("hotel").rejected("car", "no")
    story = story.rejected("hotel", "a").expect(Undo(step="flight")).rejected("flight", "b")
    story.expect_stuck("its compensation was rejected: a").expect_stuck("rejected: b")


def test_a_step_forward_that_is_stuck_is_given_up_before_all_is_undone() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR), on_compensation_fault="go_on").done("flight")
    story = story.faulted("hotel", "boom").expect_stuck("boom").rejected("car", "no")
    assert story.expect_nothing().state.direction is Direction.BACKWARD
    story.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


# A pivot of which a part was done


def test_a_pivot_that_is_rejected_further_down_leaves_it_stuck() -> None:
    story = begin(FLIGHT, PAYMENT).done("flight").rejected("payment", "poor", downstream=True)
    story.expect_nothing().expect_stuck("after a part of it was done")
    story.done("payment").expect_completed()
