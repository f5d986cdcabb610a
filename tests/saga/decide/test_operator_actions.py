"""`decide` when an operator replays or skips steps (rules 9 and 11)."""

from dataclasses import replace

import pytest

from saga import Parallel, Phase, Replayed, Skipped, Verdict
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
    phase,
    retried,
    sign,
    step,
    taken_back,
)

REPLAY = Replayed(reason="repaired")


# Replay


def test_the_steps_own_command_is_sent_anew() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom")
    old = stuck.state.command_id("hotel", Phase.COMMANDED, 1)
    story = stuck.replayed().expect(Order(step="hotel"))
    assert story.sent[0].id == story.state.command_id("hotel", Phase.COMMANDED, 2)
    assert retried(story) == ([], [old])
    assert story.state.reason is None
    assert story.state.data.kept == ("flight",)
    story.again().done("hotel").expect_completed()


def test_an_outcome_of_the_old_generation_is_late() -> None:
    stuck = begin(HOTEL).faulted("hotel", "boom")
    yes = stuck.done("hotel").consumed[-1]
    story = stuck.replayed()._hear(yes).expect_nothing()
    assert story.decision is not None
    assert story.decision.verdict is Verdict.STALE
    story.done("hotel").expect_completed()


def test_what_is_parked_further_down_is_delivered_again_as_it_is() -> None:
    stuck = begin(HOTEL).faulted("hotel", "boom", downstream=True)
    parked = stuck.consumed[-1].causation_id
    story = stuck.replayed().expect_nothing()
    assert retried(story) == ([parked], [])
    assert story.state.steps["hotel"].generation == 1
    story.done("hotel").expect_completed()


def test_what_is_parked_at_the_saga_is_consumed_again() -> None:
    story = begin(FLIGHT, HOTEL)
    yes = story.done("flight").consumed[-1]
    fault = begin(FLIGHT, HOTEL).faulted("flight", "bug").consumed[-1]
    payload = '{"consumer":"saga.voyage","message_kind":"saga.done","error":"bug"}'
    stuck = story._hear(replace(fault, payload=payload, causation_id=yes.id)).expect_stuck("bug")
    replayed = stuck.replayed().expect_nothing()
    assert retried(replayed) == ([yes.id], [])
    assert (replayed.state.status, replayed.state.faults) == ("running", {})
    replayed._hear(yes).expect(Order(step="hotel")).done("hotel").expect_completed()


def test_with_corrected_data() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom")
    stuck.replayed(price=7).expect(Order(step="hotel", price=7)).done("hotel").expect_completed()
    stuck.expect_refused(
        Replayed(reason="r", data={"prize": 7}), "the saga's data has no field 'prize'"
    )
    stuck.expect_refused(
        Replayed(reason="r", data={"price": "x"}), "does not fit: field price: Input should be"
    )


def test_all_that_failed_goes_on_together() -> None:
    stuck = begin(Parallel(HOTEL, CAR), FLIGHT).faulted("hotel", "a").faulted("car", "b")
    story = stuck.replayed().expect(Order(step="hotel"), Order(step="car"))
    story.done("hotel").done("car").expect(Order(step="flight"))


def test_a_compensation_that_failed_is_sent_anew() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").rejected("hotel", "no").rejected("flight", "late")
    story = stuck.replayed().expect(Undo(step="flight"))
    assert story.sent[0].id == story.state.command_id("flight", Phase.COMPENSATING, 2)
    story.done("flight").expect_compensated()


def test_what_was_rejected_after_the_pivot_is_sent_anew() -> None:
    stuck = begin(PAYMENT, TICKETS).done("payment").rejected("tickets", "no paper")
    story = stuck.replayed().expect(Order(step="tickets"))
    story.done("tickets").expect_completed()


@pytest.mark.parametrize("end", ["running", "compensating", "completed", "compensated"])
def test_only_a_stuck_saga_is_replayed(end: str) -> None:
    running = begin(FLIGHT, HOTEL).done("flight")
    undoing = running.rejected("hotel", "no")
    all_ends = (running, undoing, running.done("hotel"), undoing.done("flight"))
    story = next(story for story in all_ends if story.state.status == end)
    story.expect_refused(REPLAY, f"it is {end}, and only a stuck saga can be replayed")


# Replay from an earlier step


STUCK = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel").faulted("car", "boom")


def test_from_a_step_it_undoes_back_to_it_and_goes_forward_again() -> None:
    story = STUCK.replayed(from_step="hotel", price=7).expect(Undo(step="hotel")).again()
    assert (story.state.status, story.state.rewind_to) == ("compensating", "hotel")
    assert retried(STUCK.replayed(from_step="hotel"))[1] == list(STUCK.state.steps["car"].parked)
    story = story.done("hotel").expect(Order(step="hotel", price=7))
    assert story.sent[0].id == story.state.command_id("hotel", Phase.COMMANDED, 2)
    assert (story.state.status, story.state.rewind_to) == ("running", None)
    story = story.done("hotel").expect(Order(step="car", price=7))
    assert story.sent[0].id == story.state.command_id("car", Phase.COMMANDED, 2)
    story.done("car").expect_completed()
    story.rejected("car", "no").expect(Undo(step="hotel")).done("hotel").expect(Undo(step="flight"))


def test_from_the_step_that_failed_it_goes_forward_at_once() -> None:
    story = STUCK.replayed(from_step="car").expect(Order(step="car"))
    story.done("car").expect_completed()


def test_what_comes_of_the_steps_before_the_replay_is_late() -> None:
    old = [STUCK.consumed[2], STUCK.consumed[3]]  # the hotel's outcome, and the car's fault
    story = STUCK.replayed(from_step="flight").done("hotel").expect(Undo(step="flight"))
    story = story.done("flight").expect(Order(step="flight"))
    assert "hotel" not in story.state.steps
    for message in old:
        story = story._hear(message).expect_nothing()
        assert story.decision is not None
        assert story.decision.verdict is Verdict.STALE
    story.done("flight").done("hotel").done("car").expect_completed()


def test_siblings_in_flight_are_taken_back_or_awaited_and_undone() -> None:
    stuck = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").faulted("hotel", "boom")
    story = stuck.replayed(from_step="flight").expect_nothing()
    revoked = story.revoked("car").expect(Undo(step="flight")).done("flight")
    revoked = revoked.expect(Order(step="flight")).done("flight")
    revoked.expect(Order(step="hotel"), Order(step="car")).done("car").done("hotel")
    awaited = story.not_revoked("car").done("car").expect(Undo(step="car")).done("car")
    awaited.expect(Undo(step="flight"))


def test_a_wait_is_waited_for_again() -> None:
    stuck = begin(FLIGHT, sign(timeout=MINUTE), CAR).done("flight").signal(Approved())
    story = stuck.faulted("car", "boom").replayed(from_step="sign").expect_nothing()
    assert phase(story, "sign") == "waiting"
    story.signal(Approved(by="Bob")).expect(Order(step="car")).done("car").expect_completed()


def test_a_compensation_may_fail_on_the_way_back() -> None:
    stuck = STUCK.replayed(from_step="hotel").faulted("hotel", "jammed").expect_stuck("jammed")
    stuck.replayed().done("hotel").expect(Order(step="hotel"))


def test_the_deadline_of_the_saga_applies_on_the_way_back() -> None:
    stuck = begin(FLIGHT, HOTEL, CAR, deadline=MINUTE).done("flight").done("hotel")
    story = stuck.faulted("car", "boom").replayed(from_step="hotel").timed_out()
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def from_step(name: str) -> Replayed:
    return Replayed(reason="r", from_step=name)


def test_from_where_it_cannot_go_it_is_refused() -> None:
    STUCK.expect_refused(from_step("boat"), "it has no step 'boat'; its steps are flight, hotel,")
    early = begin(FLIGHT, HOTEL).faulted("flight", "boom")
    early.expect_refused(from_step("hotel"), "step hotel was not begun yet")
    undoing = begin(FLIGHT, HOTEL).done("flight").rejected("hotel", "no").faulted("flight", "boom")
    undoing.expect_refused(from_step("flight"), "it is being compensated, so it cannot")
    paid = begin(FLIGHT, PAYMENT, TICKETS).done("flight").done("payment").faulted("tickets", "boom")
    for name in ("flight", "payment"):
        paid.expect_refused(from_step(name), f"step {name} is not after the pivot, step payment,")
    paid.replayed(from_step="tickets").expect(Order(step="tickets"))


@pytest.mark.parametrize("first", ["fixed", "car"])
def test_what_has_no_compensation_is_not_done_twice(first: str) -> None:
    group = Parallel(step("fixed", undo=False), CAR)
    stuck = begin(FLIGHT, group).done("flight").done("fixed").faulted("car", "boom")
    stuck.expect_refused(from_step(first), "step fixed is done and has no compensation, so")


# Skip


def test_a_step_that_is_skipped_is_settled_and_never_undone() -> None:
    story = begin(FLIGHT, HOTEL, CAR).done("flight").faulted("hotel", "boom")
    story = story.skipped("hotel", "booked by phone").expect(Order(step="car"))
    assert phase(story, "hotel") == "skipped"
    story.again().rejected("car", "no").expect(Undo(step="flight"))
    story.done("car").expect_completed()


def test_a_compensation_that_is_skipped_is_done_by_other_means() -> None:
    stuck = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel").rejected("car", "no")
    story = stuck.faulted("hotel", "boom").skipped("hotel", "by phone").expect(Undo(step="flight"))
    assert phase(story, "hotel") == "compensated"
    story.done("flight").expect_compensated()


def test_a_pivot_that_is_skipped_is_passed() -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS).done("flight").faulted("payment", "boom")
    story = story.skipped("payment", "paid in cash").expect(Order(step="tickets"))
    story.expect_refused(CANCEL, "it has passed its pivot")


def test_only_what_failed_is_skipped() -> None:
    failed = "only a step that failed can be skipped; failed: "
    STUCK.expect_refused(Skipped(step="hotel", reason="r"), failed + "car")
    begin(FLIGHT).expect_refused(Skipped(step="flight", reason="r"), failed + "none")
    begin(FLIGHT).expect_refused(Skipped(step="boat", reason="r"), failed + "none")


def test_what_is_out_still_when_it_is_skipped_is_taken_back() -> None:
    stuck = begin(PAYMENT, TICKETS).done("payment").timed_out("tickets").expect_stuck("no outcome")
    story = stuck.skipped("tickets", "by post").expect_completed()
    assert taken_back(story) == ["tickets"]


# A sibling that fails for good while the saga turns back


@pytest.mark.parametrize("asked", [False, True])
def test_one_that_left_nothing_is_as_good_as_taken_back(asked: bool) -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").rejected("car", "no")
    story = story.not_revoked("hotel") if asked else story
    failed = story.faulted("hotel", "boom").expect_nothing()
    assert (failed.state.status, taken_back(failed)) == ("compensating", ["hotel"])
    failed.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    failed.not_revoked("hotel").done("hotel").expect(Undo(step="hotel"))  # somebody retried it


def test_one_that_acts_outside_or_failed_further_down_is_undone() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").rejected("car", "no")
    called = story.faulted("hotel", "cut", external=True).revoked("hotel", started=True)
    called.expect(Undo(step="hotel")).done("hotel").expect(Undo(step="flight"))
    below = story.faulted("hotel", "boom", downstream=True).expect(Undo(step="hotel"))
    assert retried(below)[1] == [below.consumed[-1].causation_id]


def test_a_run_that_was_under_way_when_it_was_given_up_tells_that_it_failed() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").rejected("car", "no")
    under_way = story.not_revoked("hotel").expect_nothing()
    failed = under_way.revoked("hotel").expect(Undo(step="flight"))
    failed.done("flight").expect_compensated()
    assert phase(failed, "hotel") == "revoked"
    under_way.revoked("hotel", started=True).expect(Undo(step="hotel"))
    overdue = under_way.timed_out("hotel").not_revoked("hotel").expect(Undo(step="hotel"))
    late = overdue.revoked(
        "hotel", order=story.orders[story.state.command_id("hotel", Phase.COMMANDED, 1)]
    )
    assert late.decision is not None
    assert late.decision.verdict is Verdict.STALE


def test_it_may_tell_so_before_the_answer_to_the_revocation() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").rejected("car", "no")
    asked = story.orders[story.state.command_id("hotel", Phase.COMMANDED, 1)]
    told = story.revoked("hotel").expect(Undo(step="flight"))
    late = told.not_revoked("hotel", order=asked).expect_nothing()
    assert late.decision is not None
    assert late.decision.verdict is Verdict.STALE
    late.done("flight").expect_compensated()
