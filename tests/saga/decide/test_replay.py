"""`decide` when an operator lets go on, skips or cancels what had failed before (rules 9 and 11)."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from saga import Category, Parallel, Phase, Replayed, Verdict
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
)

#: Two messages further down the choreography of one step.
SEATS, MEALS = UUID(int=1), UUID(int=2)


def parked_below(story: Story[Voyage], step: str, *ids: UUID) -> Story[Voyage]:
    """Deliveries further down the choreography of this step are parked."""
    for id in ids:
        fault = story.faulted(step, f"boom {id.int}", downstream=True).consumed[-1]
        story = story._hear(replace(fault, causation_id=id))
    return story


def retried(story: Story[Voyage]) -> tuple[UUID, ...]:
    assert story.decision is not None
    return story.decision.retry


def superseded(story: Story[Voyage]) -> tuple[UUID, ...]:
    assert story.decision is not None
    return story.decision.supersede


def own_command(story: Story[Voyage], step: str) -> UUID:
    return story.state.command_id(step, Phase.COMMANDED, story.state.steps[step].generation)


def after_its_time(story: Story[Voyage]) -> Story[Voyage]:
    """The deadline that the last message set passes."""
    assert story.decision is not None
    (timer,) = [m for m in story.decision.send if m.category is Category.TIMEOUT]
    assert timer.delay == MINUTE.total_seconds()
    return story._hear(timer)


# What is parked further down


def test_all_that_is_parked_below_a_step_is_delivered_again() -> None:
    stuck = parked_below(begin(HOTEL), "hotel", SEATS, MEALS).expect_stuck("boom 2")
    story = stuck.replayed().expect_nothing()
    assert retried(story) == (SEATS, MEALS)
    story.done("hotel").expect_completed()


def test_what_is_parked_below_it_twice_is_delivered_again_once() -> None:
    stuck = parked_below(begin(HOTEL), "hotel", SEATS, MEALS, SEATS)
    assert retried(stuck.replayed()) == (SEATS, MEALS)


def test_what_was_delivered_again_and_did_not_fail_is_left_alone_by_the_next_replay() -> None:
    running = parked_below(begin(HOTEL), "hotel", SEATS, MEALS).replayed()
    stuck = parked_below(running, "hotel", MEALS).expect_stuck("boom 2")
    assert retried(stuck.replayed()) == (MEALS,)


def test_an_outcome_heals_whatever_is_parked_below_it() -> None:
    stuck = parked_below(begin(HOTEL, CAR), "hotel", SEATS, MEALS)
    story = stuck.done("hotel").expect(Order(step="car")).faulted("car", "boom").replayed()
    assert retried(story) == ()


# What is skipped


def test_nobody_may_deliver_again_what_was_skipped() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "boom")
    assert superseded(stuck.skipped("hotel", "by phone")) == (own_command(stuck, "hotel"),)
    below = parked_below(begin(HOTEL), "hotel", SEATS, MEALS)
    assert superseded(below.skipped("hotel", "by phone")) == (SEATS, MEALS)


# What is awaited once more


def test_a_step_that_is_awaited_on_is_given_its_time_once_more() -> None:
    stuck = begin(PAYMENT, TICKETS).done("payment").timed_out("tickets")
    for _ in range(2):
        story = stuck.replayed().expect_nothing()
        assert phase(story, "tickets") == "commanded"
        stuck = after_its_time(story).expect_stuck("step tickets: no outcome within")
    story.done("tickets").expect_completed()
    stuck.skipped("tickets", "by post").expect_completed()


def test_so_is_a_pivot_whose_outcome_is_not_known() -> None:
    stuck = begin(FLIGHT, PAYMENT).done("flight").timed_out("payment").not_revoked("payment")
    story = after_its_time(stuck.replayed().expect_nothing())
    assert phase(story, "payment") == "revoking"
    story.revoked("payment").expect(Undo(step="flight"))
    story.not_revoked("payment").expect_stuck("its outcome is not known").replayed()


def test_so_is_one_without_a_time_of_its_own_by_that_of_the_saga() -> None:
    pivot = replace(PAYMENT, timeout=None)
    overdue = begin(FLIGHT, pivot, deadline=MINUTE).done("flight").timed_out()
    for _ in range(2):
        stuck = overdue.not_revoked("payment").expect_stuck("its outcome is not known")
        overdue = stuck.replayed().expect_nothing().timed_out("payment")
        assert phase(overdue, "payment") == "revoking"
    stuck.skipped("payment", "it was paid").expect_completed()


def test_that_deadline_means_nothing_once_the_outcome_is_known() -> None:
    story = begin(PAYMENT, TICKETS, FLIGHT_ON).done("payment").timed_out("tickets").replayed()
    assert story.decision is not None
    (timer,) = story.decision.send
    late = story.done("tickets")._hear(timer).expect_nothing()
    assert late.decision is not None
    assert late.decision.verdict is Verdict.STALE


FLIGHT_ON = replace(FLIGHT, name="on", compensation=None)


# What may have had its effect


def doubtful(*others: Any) -> Story[Voyage]:
    """A hotel was called, nobody knows to what end, and is called once more."""
    story = begin(FLIGHT, HOTEL, *others).done("flight")
    return story.faulted("hotel", "cut", external=True).replayed().expect(Order(step="hotel"))


def test_an_effect_that_is_not_known_is_undone_though_the_second_try_is_rejected() -> None:
    story = doubtful().rejected("hotel", "no").expect(Undo(step="hotel"))
    story.done("hotel").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_or_fails_in_a_way_that_is_forgiven_by_now() -> None:
    story = doubtful()
    forgiving = replace(story.saga, steps=(FLIGHT, replace(HOTEL, on_fault="compensate")))
    replace(story, saga=forgiving).faulted("hotel", "boom").expect(Undo(step="hotel"))


def test_or_is_taken_back() -> None:
    story = doubtful().timed_out("hotel").revoked("hotel").expect(Undo(step="hotel"))
    story.done("hotel").expect(Undo(step="flight"))


def test_a_second_try_that_succeeds_leaves_no_doubt() -> None:
    story = doubtful(CAR).done("hotel")
    assert not story.state.steps["hotel"].doubt
    story.rejected("car", "no").expect(Undo(step="hotel")).done("hotel").expect(Undo(step="flight"))


@pytest.mark.parametrize("late", ["yes", "no"])
def test_what_comes_of_the_first_try_while_the_second_is_out_leaves_the_doubt(late: str) -> None:
    begun = begin(FLIGHT, HOTEL).done("flight")
    told = begun.done("hotel") if late == "yes" else begun.rejected("hotel", "no")
    story = doubtful()._hear(told.consumed[-1]).expect_nothing()
    assert story.decision is not None
    assert story.decision.verdict is Verdict.STALE
    story.rejected("hotel", "no").expect(Undo(step="hotel")).done("hotel").expect(
        Undo(step="flight")
    )
    story.done("hotel").expect_completed()


def test_a_pivot_that_may_have_happened_is_not_undone_by_a_rejection_of_the_second_try() -> None:
    story = begin(FLIGHT, PAYMENT).done("flight").faulted("payment", "cut", external=True)
    story.replayed().rejected("payment", "poor").expect_nothing().expect_stuck("cannot undo")


# What is cancelled on the way back


def test_a_saga_that_goes_back_to_go_forward_again_can_be_cancelled() -> None:
    stuck = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel").faulted("car", "boom")
    story = stuck.replayed(from_step="hotel").cancelled("ill").expect_nothing()
    assert (story.state.status, story.state.reason) == ("compensating", "cancelled: ill")
    story = story.done("hotel").expect(Undo(step="flight")).done("flight")
    story.expect_nothing().expect_compensated()


@pytest.mark.parametrize("answer", ["revoked", "not_revoked"])
def test_also_while_a_sibling_is_taken_back(answer: str) -> None:
    stuck = begin(Parallel(HOTEL, CAR)).faulted("hotel", "boom")
    story = stuck.replayed(from_step="hotel").cancelled("ill")
    story = getattr(story, answer)("car")
    if answer == "not_revoked":
        story = story.done("car").expect(Undo(step="car")).done("car")
    story.expect_nothing().expect_compensated()


# What is sent anew, and what it means


def ids(story: Story[Voyage]) -> list[UUID]:
    """All commands so far, and the deadlines that still run."""
    return [message.id for message in story.orders.values()]


def test_no_id_is_sent_again_over_several_replays_from_a_step() -> None:
    """Steps that the second pass did not reach were ordered before all the same."""
    story = begin(FLIGHT, HOTEL, CAR).done("flight").done("hotel").faulted("car", "boom")
    ends = ["undo hotel", "undo flight", "flight fails", "flight fails", "flight", "hotel", "car"]
    sent = ids(story)
    for end in ends:
        name = end.removeprefix("undo ").removesuffix(" fails")
        if story.state.status == "stuck":
            story = story.replayed(from_step="flight")
            sent += new_ids(story)
        story = story.faulted(name, "boom") if end.endswith("fails") else story.done(name)
        sent += new_ids(story)
    story.expect_completed()
    assert len(sent) == len(set(sent)), "what has an id of before would be dropped"


def new_ids(story: Story[Voyage]) -> list[UUID]:
    assert story.decision is not None
    return [message.id for message in story.decision.send]


def forward(story: Story[Voyage], step: str) -> UUID:
    """What the command means that was sent last."""
    (order,) = [sent for sent in story.sent if sent.payload.startswith(f'{{"step":"{step}"')]
    return order.intent or order.id


def test_a_command_that_is_sent_anew_means_what_it_meant() -> None:
    stuck = begin(HOTEL).faulted("hotel", "cut", external=True)
    meant = own_command(stuck, "hotel")
    again = stuck.replayed().faulted("hotel", "cut", external=True).replayed(price=7)
    assert forward(again, "hotel") == meant != again.sent[0].id
    other = stuck.replayed(no_effect=True)
    assert forward(other, "hotel") == other.sent[0].id
    assert not other.state.steps["hotel"].doubt
    third = other.faulted("hotel", "cut", external=True).replayed()
    assert forward(third, "hotel") == other.sent[0].id


def test_also_after_a_way_back_on_which_it_was_not_undone() -> None:
    """There is no compensation, or none was needed: what stands is not done a second time."""
    fixed = replace(HOTEL, compensation=None)
    stuck = begin(FLIGHT, fixed).done("flight").faulted("hotel", "cut", external=True)
    for first in ("flight", "hotel"):
        story = stuck.replayed(from_step=first)
        story = story.done("flight").done("flight") if first == "flight" else story
        assert forward(story, "hotel") == own_command(stuck, "hotel")
    said = stuck.replayed(from_step="hotel", no_effect=True)
    assert forward(said, "hotel") == said.sent[0].id
    free = begin(FLIGHT, HOTEL, CAR, data=Voyage(nothing_to_undo=("hotel",))).done("flight")
    passed = free.done("hotel").faulted("car", "boom").replayed(from_step="hotel")
    assert forward(passed, "hotel") == own_command(free, "hotel")


def test_what_was_undone_is_meant_anew() -> None:
    stuck = begin(FLIGHT, HOTEL).done("flight").faulted("hotel", "cut", external=True)
    story = stuck.replayed(from_step="hotel").expect(Undo(step="hotel")).done("hotel")
    assert forward(story, "hotel") == story.sent[0].id


def test_a_compensation_keeps_what_it_means_and_says_what_it_undoes() -> None:
    begun = begin(FLIGHT, HOTEL).done("flight")
    undoing = begun.timed_out("hotel").not_revoked("hotel").expect(Undo(step="hotel"))
    assert undoing.sent[0].undoes == f"voyage:{own_command(begun, 'hotel')}"
    again = undoing.faulted("hotel", "jammed").replayed()
    assert (again.sent[0].intent, again.sent[0].undoes) == (
        undoing.sent[0].id,
        undoing.sent[0].undoes,
    )
    late = begun.done("hotel").consumed[-1]
    once_more = again.done("hotel").done("flight").expect_compensated()._hear(late)
    assert (once_more.sent[0].intent, once_more.sent[0].undoes) == (
        undoing.sent[0].id,
        undoing.sent[0].undoes,
    )
    other = undoing.faulted("hotel", "jammed").replayed(no_effect=True)
    assert other.sent[0].intent is None
    assert other.sent[0].undoes == undoing.sent[0].undoes


def test_of_what_is_not_sent_anew_nobody_can_say_that_it_had_no_effect() -> None:
    below = parked_below(begin(HOTEL), "hotel", SEATS)
    overdue = begin(PAYMENT, TICKETS).done("payment").timed_out("tickets")
    for story in (below, overdue):
        story.expect_refused(Replayed(reason="r", no_effect=True), "no command is sent again")


# What is to be done again, and is out still


def hanging() -> Story[Voyage]:
    """The saga goes back to its hotel, and of the car that is under way nobody knows anything."""
    stuck = begin(FLIGHT, Parallel(HOTEL, CAR)).done("flight").faulted("hotel", "boom")
    return stuck.replayed(from_step="hotel").timed_out("car").not_revoked("car")


def test_it_is_not_done_again_before_its_outcome_is_known() -> None:
    story = hanging().expect_nothing().expect_stuck("step car: its time is over")
    undoing = story.done("car").expect(Undo(step="car"))
    undoing.done("car").expect(Order(step="hotel"), Order(step="car"))
    story.rejected("car", "no").expect(Order(step="hotel"), Order(step="car"))
    below = story.rejected("car", "no", downstream=True).expect(Undo(step="car"))
    below.done("car").expect(Order(step="hotel"), Order(step="car"))


def test_it_can_be_awaited_on_or_cancelled() -> None:
    awaited = hanging().replayed().expect_nothing()
    assert awaited.state.status == "compensating"
    awaited.timed_out("car").not_revoked("car").expect_stuck("step car: its time is over")
    story = hanging().cancelled("ill").expect_nothing().not_revoked("car").expect(Undo(step="car"))
    story.done("car").expect(Undo(step="flight")).done("flight").expect_compensated()
