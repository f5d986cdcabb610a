"""`decide` when a deadline passes (rule 8), and the deadlines it sets and clears."""

from typing import Any
from uuid import UUID

import pytest

from saga import Category, Envelope, Parallel, Phase, Verdict
from saga.testing import Story
from tests.saga.decide.timed_sagas import (
    CAR,
    FLIGHT,
    HOTEL,
    MINUTE,
    PAYMENT,
    TICKETS,
    Order,
    Undo,
    Voyage,
    begin,
    phase,
    step,
)

LIMITED: dict[str, Any] = {"deadline": MINUTE}


def decision(story: Story[Voyage]) -> tuple[list[str], list[UUID]]:
    """The steps that are taken back, and the deadlines that are cleared, by the last message."""
    assert story.decision is not None
    return [name for _, name in story.decision.revoke], list(story.decision.clear)


def timers(story: Story[Voyage]) -> list[Envelope]:
    assert story.decision is not None
    return [m for m in story.decision.send if m.category is Category.TIMEOUT]


def heard(story: Story[Voyage], message: Envelope) -> Story[Voyage]:
    """Deliver a message that came late or was sent before."""
    return story._hear(message)


def verdict(story: Story[Voyage]) -> Verdict:
    assert story.decision is not None
    return story.decision.verdict


# Of a step


def test_a_deadline_is_sent_with_the_command_and_due_later() -> None:
    story = begin(HOTEL).expect(Order(step="hotel"))
    (timer,) = timers(story)
    assert (timer.delay, timer.root_id) == (60.0, story.sent[0].id)
    assert timer.id == story.state.timer_id("hotel", 1)
    assert timer.recipient == timer.sender == "saga.voyage"
    assert timers(begin(FLIGHT)) == []


def test_a_passed_deadline_takes_the_command_back() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").timed_out("hotel").expect_nothing()
    assert story.decision is not None
    assert story.decision.revoke == (
        (story.state.command_id("hotel", Phase.COMMANDED, 1), "hotel"),
    )
    assert phase(story, "hotel") == "revoking"
    assert story.state.status == "compensating"


def test_taken_back_only_the_step_before_is_undone() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").timed_out("hotel")
    story = story.revoked("hotel").expect(Undo(step="flight")).again().done("flight")
    story.expect_compensated()
    assert phase(story, "hotel") == "revoked"
    assert story.state.reason == "step hotel: no outcome within 0:01:00"


def test_not_taken_back_it_is_in_doubt_and_undone_first() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").timed_out("hotel")
    story = story.not_revoked("hotel").expect(Undo(step="hotel"))
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_in_doubt_with_nothing_to_undo_it_is_passed_over() -> None:
    story = begin(FLIGHT, step("hotel", undo=False, timeout=MINUTE)).done("flight")
    story = story.timed_out("hotel").not_revoked("hotel").expect(Undo(step="flight"))
    story = story.done("flight").expect_compensated()
    assert phase(story, "hotel") == "in_doubt"


def test_the_deadline_is_cleared_when_the_outcome_comes() -> None:
    story = begin(HOTEL, FLIGHT)
    for after in (story.done("hotel"), story.rejected("hotel", "no")):
        assert decision(after) == ([], [story.state.timer_id("hotel", 1)])
    assert decision(story.faulted("hotel", "boom"))[1] == []


def test_a_deadline_that_comes_though_it_was_cleared_means_nothing() -> None:
    story = begin(HOTEL, FLIGHT)
    (timer,) = timers(story)
    late = heard(story.done("hotel"), timer).expect_nothing()
    assert verdict(late) is Verdict.STALE
    assert late.done("flight").expect_completed().state.steps["hotel"].rejection is None


def test_one_that_comes_twice_asks_once() -> None:
    story = begin(HOTEL).timed_out("hotel").again()
    story.not_revoked("hotel").again().expect_nothing()


def test_one_of_an_old_generation_means_nothing() -> None:
    story = begin(HOTEL)
    (timer,) = timers(story)
    replayed = story.faulted("hotel", "boom").replayed().expect(Order(step="hotel"))
    assert decision(replayed)[1] == [timer.id]
    assert [m.id for m in timers(replayed)] == [story.state.timer_id("hotel", 2)]
    assert verdict(heard(replayed, timer)) is Verdict.STALE
    replayed.timed_out("hotel").revoked("hotel").expect_compensated()


def test_a_parked_step_whose_deadline_passes_is_taken_back_too() -> None:
    story = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom").timed_out("hotel")
    assert (phase(story, "hotel"), story.state.status) == ("revoking", "compensating")
    story.revoked("hotel").expect(Undo(step="flight"))
    story.not_revoked("hotel").expect(Undo(step="hotel"))


# Siblings


def test_the_sibling_is_taken_back_but_awaited_if_that_fails() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").timed_out("hotel")
    assert decision(story)[0] == ["hotel", "car"]
    story = story.not_revoked("hotel").expect_nothing().not_revoked("car").expect_nothing()
    assert (phase(story, "hotel"), phase(story, "car")) == ("in_doubt", "commanded")
    story = story.done("car").expect(Undo(step="car")).done("car").expect(Undo(step="hotel"))
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_a_sibling_that_is_awaited_keeps_its_deadline() -> None:
    story = begin(Parallel(HOTEL, CAR)).rejected("hotel", "no")
    assert decision(story) == (["car"], [story.state.timer_id("hotel", 1)])
    story = story.not_revoked("car")
    assert decision(story)[1] == []
    story = story.timed_out("car")
    assert decision(story)[0] == ["car"]
    story.not_revoked("car").expect(Undo(step="car")).done("car").expect_compensated()


def test_a_sibling_whose_deadline_passes_while_it_is_taken_back_is_asked_once() -> None:
    story = begin(Parallel(HOTEL, CAR)).rejected("hotel", "no").timed_out("car")
    assert decision(story)[0] == []
    story.not_revoked("car").expect(Undo(step="car"))
    story.revoked("car").expect_compensated()


def test_the_deadlines_of_siblings_that_were_taken_back_are_cleared() -> None:
    story = begin(Parallel(HOTEL, CAR)).rejected("hotel", "no").revoked("car")
    assert decision(story)[1] == [story.state.timer_id("car", 1)]
    story.expect_compensated()


@pytest.mark.parametrize("first", ["hotel", "car"])
def test_both_deadlines_pass(first: str) -> None:
    other = "car" if first == "hotel" else "hotel"
    story = begin(Parallel(HOTEL, CAR)).timed_out(first).timed_out(other)
    story = story.revoked(other).expect_nothing().not_revoked(first).expect(Undo(step=first))
    story.done(first).expect_compensated()


# Of the saga


def test_the_deadline_of_the_saga_is_sent_first_and_cleared_at_the_end() -> None:
    story = begin(FLIGHT, **LIMITED)
    (timer,) = timers(story)
    assert timer.id == story.state.timer_id(None)
    for after in (story.done("flight"), story.rejected("flight", "no")):
        assert decision(after)[1] == [timer.id]
        assert verdict(heard(after, timer)) is Verdict.STALE
        assert after.state.status == heard(after, timer).state.status


def test_it_turns_the_saga_back() -> None:
    story = begin(FLIGHT, HOTEL, **LIMITED).done("flight").timed_out()
    assert decision(story) == (["hotel"], [story.state.timer_id("hotel", 1)])
    story.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    story.not_revoked("hotel").expect(Undo(step="hotel"))
    assert story.state.reason == "the deadline of the saga passed"


def test_while_it_compensates_it_means_nothing() -> None:
    story = begin(FLIGHT, HOTEL, **LIMITED).done("flight").rejected("hotel", "no")
    assert verdict(story.timed_out()) is Verdict.STALE


def hanging() -> Story[Voyage]:
    """A branch was rejected; the other one, which has no deadline of its own, says nothing."""
    story = begin(Parallel(FLIGHT, HOTEL), **LIMITED).rejected("hotel", "no")
    return story.not_revoked("flight").expect_nothing()


def test_but_what_is_awaited_then_is_awaited_no_longer() -> None:
    story = hanging().timed_out().expect_nothing()
    assert decision(story)[0] == ["flight"]
    assert story.state.reason == "step hotel: no"
    doubtful = story.not_revoked("flight").expect(Undo(step="flight"))
    doubtful.done("flight").expect_compensated()
    story.revoked("flight").expect_compensated()


def test_also_where_whether_it_is_taken_back_is_not_known_yet() -> None:
    story = begin(Parallel(FLIGHT, HOTEL), **LIMITED).rejected("hotel", "no").timed_out()
    story.not_revoked("flight").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_what_fails_for_good_then_needs_nobody_either() -> None:
    story = hanging().faulted("flight", "boom").timed_out().expect_nothing()
    story.revoked("flight").expect_compensated()
    story.not_revoked("flight").expect(Undo(step="flight"))


def test_after_the_pivot_it_means_nothing() -> None:
    story = begin(PAYMENT, FLIGHT_ON, **LIMITED).done("payment").timed_out()
    assert verdict(story) is Verdict.STALE
    story.done("on").expect_completed()


FLIGHT_ON = step("on", undo=False)


def test_a_saga_that_is_stuck_turns_back_as_by_the_deadline_of_the_step() -> None:
    stuck = begin(FLIGHT, HOTEL, **LIMITED).done("flight").faulted("hotel", "boom")
    story = stuck.expect_stuck("boom").timed_out()
    assert decision(story)[0] == ["hotel"]
    assert (story.state.status, story.state.reason) == (
        "compensating",
        "the deadline of the saga passed",
    )
    story.revoked("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()
    story.not_revoked("hotel").expect(Undo(step="hotel"))


def test_what_failed_further_down_is_in_doubt_then_and_nobody_delivers_it_again() -> None:
    stuck = begin(FLIGHT, HOTEL, **LIMITED).done("flight").faulted("hotel", "x", downstream=True)
    story = stuck.timed_out().expect(Undo(step="hotel"))
    assert story.decision is not None
    assert story.decision.supersede == (stuck.consumed[-1].causation_id,)
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_one_that_is_stuck_with_a_compensation_or_after_the_pivot_stays_so() -> None:
    undoing = begin(FLIGHT, HOTEL, **LIMITED).done("flight").rejected("hotel", "no")
    undoing = undoing.faulted("flight", "jammed").timed_out().expect_stuck("jammed")
    assert verdict(undoing) is Verdict.STALE
    paid = begin(PAYMENT, FLIGHT_ON, **LIMITED).done("payment").faulted("on", "boom").timed_out()
    assert verdict(paid.expect_stuck("boom")) is Verdict.STALE


def test_a_pivot_that_failed_is_taken_back_unless_it_may_have_had_its_effect() -> None:
    stuck = begin(FLIGHT, PAYMENT, **LIMITED).done("flight")
    story = stuck.faulted("payment", "boom").timed_out()
    story.revoked("payment").expect(Undo(step="flight")).done("flight").expect_compensated()
    called = stuck.faulted("payment", "cut", external=True).timed_out()
    called = called.revoked("payment", started=True).expect_stuck("a pivot cannot be undone")
    anew = called.replayed().expect(Order(step="payment"))
    assert anew.sent[0].intent == stuck.sent[0].id
    anew.done("payment").expect_completed()


# And the pivot


@pytest.mark.parametrize("name", ["payment", None])
def test_a_pivot_in_flight_that_turns_out_done_heals_forward(name: str | None) -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS, **LIMITED).done("flight").timed_out(name)
    story = story.expect_nothing().done("payment").expect(Order(step="tickets"))
    assert story.state.reason is None
    story.done("tickets").expect_completed()


@pytest.mark.parametrize("name", ["payment", None])
def test_a_pivot_that_was_taken_back_is_no_obstacle(name: str | None) -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS, **LIMITED).done("flight").timed_out(name)
    story.revoked("payment").expect(Undo(step="flight")).done("flight").expect_compensated()


@pytest.mark.parametrize("name", ["payment", None])
def test_a_pivot_in_doubt_leaves_it_stuck_until_it_is_known(name: str | None) -> None:
    story = begin(FLIGHT, PAYMENT, TICKETS, **LIMITED).done("flight").timed_out(name)
    stuck = story.not_revoked("payment").expect_nothing().again()
    stuck.expect_stuck("its outcome is not known, and a pivot cannot be undone")
    stuck.done("payment").expect(Order(step="tickets")).done("tickets").expect_completed()
    stuck.rejected("payment", "poor").expect(Undo(step="flight"))
    stuck.skipped("payment", "paid in cash").expect(Order(step="tickets"))
    stuck.rejected("payment", "poor", downstream=True).expect_stuck("which a pivot cannot undo")


def test_after_the_pivot_a_passed_deadline_leaves_it_stuck() -> None:
    stuck = begin(PAYMENT, TICKETS).done("payment").timed_out("tickets").expect_nothing()
    stuck.expect_stuck("step tickets: no outcome within 0:01:00")
    assert decision(stuck)[0] == []
    stuck.done("tickets").expect_completed()
