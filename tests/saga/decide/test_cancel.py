"""`decide` when an operator cancels a saga (rules 9 and 11)."""

import pytest

from saga import Cancelled, Parallel, Replayed, Verdict
from tests.saga.decide.timed_sagas import (
    CANCEL,
    CAR,
    FLIGHT,
    HOTEL,
    MINUTE,
    PAYMENT,
    TICKETS,
    Approved,
    Order,
    Undo,
    begin,
    retried,
    sign,
    taken_back,
)


def test_it_takes_back_what_nobody_began_and_awaits_what_is_under_way() -> None:
    story = begin(FLIGHT, HOTEL, CAR).done("flight").cancelled("ill").expect_nothing()
    assert (story.state.status, story.state.reason) == ("compensating", "cancelled: ill")
    assert taken_back(story) == ["hotel"]
    story.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    story.not_revoked("hotel").done("hotel").expect(Undo(step="hotel"))
    undone = story.done("hotel").expect(Undo(step="hotel")).done("hotel").done("flight")
    undone.expect_compensated()
    story.rejected("hotel", "no").expect(Undo(step="flight"))
    story.timed_out("hotel").revoked("hotel").expect(Undo(step="flight"))


def test_it_is_idempotent() -> None:
    story = begin(FLIGHT, HOTEL).cancelled("ill").again().cancelled("ill").expect_nothing()
    story.done("flight").expect(Undo(step="flight"))


def test_said_again_while_it_turns_back_the_first_reason_stays() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").cancelled("ill").done("hotel")
    story = story.expect(Undo(step="hotel")).cancelled("bored").expect_nothing()
    assert (story.state.status, story.state.reason) == ("compensating", "cancelled: ill")
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    story = story.done("hotel").done("flight")
    story.expect_refused(Cancelled(reason="bored"), "it is compensated already")


def test_one_that_turns_back_for_another_reason_is_not_cancelled() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").rejected("hotel", "full")
    story.expect_refused(Cancelled(reason="ill"), "it is being compensated already")


def test_the_last_step_in_flight_is_undone_too() -> None:
    begin(FLIGHT).cancelled("ill").done("flight").expect(Undo(step="flight"))


def test_parallel_steps_are_all_awaited() -> None:
    story = begin(Parallel(FLIGHT, CAR), HOTEL).cancelled("ill").done("flight").expect_nothing()
    story.done("car").expect(Undo(step="car"))
    story.rejected("car", "no").expect(Undo(step="flight"))


def test_a_wait_ends_at_once() -> None:
    story = begin(FLIGHT, sign(timeout=MINUTE)).done("flight").cancelled("ill")
    assert story.decision is not None
    assert story.decision.clear == (story.state.timer_id("sign", 1),)
    story.expect(Undo(step="flight")).signal(Approved()).done("flight").expect_compensated()


def test_a_stuck_saga_turns_back_at_once() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom").expect_stuck("boom")
    story = stuck.cancelled("ill").expect_nothing()
    assert (story.state.status, taken_back(story)) == ("compensating", ["hotel"])
    story.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    story.revoked("hotel", started=True).expect(Undo(step="hotel"))
    story.not_revoked("hotel").done("hotel").expect(Undo(step="hotel"))  # somebody had retried it
    story.expect_refused(Replayed(reason="r"), "it is compensating, and only a stuck saga")


def test_of_a_stuck_one_what_was_done_before_it_failed_further_down_is_undone() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom", downstream=True)
    story = stuck.cancelled("ill").expect(Undo(step="hotel"))
    assert retried(story) == ([], [stuck.consumed[-1].causation_id])
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_siblings_of_what_failed_are_taken_back_with_it() -> None:
    stuck = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").faulted("hotel", "boom")
    story = stuck.cancelled("ill")
    assert taken_back(story) == ["hotel", "car"]
    story.revoked("hotel").expect_nothing().revoked("car").expect(Undo(step="flight"))


def test_a_pivot_that_may_have_happened_is_not_undone_by_it() -> None:
    stuck = begin(FLIGHT, PAYMENT).done("flight").faulted("payment", "cut", external=True)
    story = stuck.cancelled("ill").revoked("payment", started=True).expect_nothing()
    story.expect_stuck("its outcome is not known, and a pivot cannot be undone")
    story.skipped("payment", "paid in cash").expect_completed()
    below = begin(FLIGHT, PAYMENT).done("flight").faulted("payment", "boom", downstream=True)
    below.cancelled("ill").expect_stuck("boom").replayed().done("payment").expect_completed()


def test_with_the_pivot_in_flight_the_pivot_decides() -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS).done("flight").cancelled("ill").expect_nothing()
    forward = story.done("payment").expect(Order(step="tickets"))
    assert forward.state.reason is None
    story.rejected("payment", "poor").expect(Undo(step="flight"))


def test_a_pivot_that_was_called_and_succeeds_late_decides_too() -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS).done("flight").cancelled("ill")
    stuck = story.revoked("payment", started=True).expect_stuck("a pivot cannot be undone").again()
    forward = stuck.done("payment").expect(Order(step="tickets"))
    assert (forward.state.status, forward.state.reason) == ("running", None)
    forward.again().done("tickets").expect_completed()
    answer = stuck.consumed[-1]  # it may come after the success as well
    late = story.done("payment")._hear(answer).expect_nothing()
    late.done("tickets").expect_completed()


def test_after_the_pivot_it_is_refused() -> None:
    story = begin(PAYMENT, TICKETS).done("payment")
    story.expect_refused(CANCEL, "it has passed its pivot, step payment, and only goes forward")
    with pytest.raises(AssertionError, match=r"saga\.cancelled is refused: it has passed"):
        story.cancelled("ill")


def test_while_it_compensates_and_when_it_is_over_it_is_refused() -> None:
    undoing = begin(FLIGHT, HOTEL).done("flight").rejected("hotel", "no")
    undoing.expect_refused(CANCEL, "it is being compensated already")
    undoing.done("flight").expect_refused(CANCEL, "it is compensated already")
    begin(FLIGHT).done("flight").expect_refused(CANCEL, "it is completed already")


def test_a_refused_act_leaves_no_trace() -> None:
    story = begin(PAYMENT, TICKETS).done("payment")
    after = story._from_outside(CANCEL, story.consumed[0].category)
    assert after.state == story.state
    assert after.decision is not None
    assert after.decision.verdict is Verdict.REFUSED
