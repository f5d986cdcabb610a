"""`decide` in cases that are rare: messages of another time, and definitions that have changed."""

from dataclasses import replace
from uuid import uuid4

import pytest

from saga import (
    CAUSAL,
    Cancelled,
    Category,
    Envelope,
    Saga,
    Skipped,
    Step,
    TimedOut,
    Verdict,
    decide,
)
from saga.testing import Story
from tests.saga.decide.timed_sagas import (
    FLIGHT,
    HOTEL,
    PAYMENT,
    TICKETS,
    Approved,
    Denied,
    Order,
    Undo,
    Voyage,
    begin,
    phase,
    saga,
    sign,
    step,
)


def told(story: Story[Voyage], *steps: object) -> Story[Voyage]:
    """The same story under a definition that has other steps, and the version it had."""
    changed: Saga[Voyage] = saga(*steps)
    return replace(story, saga=changed)


def test_a_deadline_of_a_step_that_is_not_begun_means_nothing() -> None:
    story = begin(FLIGHT, HOTEL)
    passed = TimedOut(step="hotel")
    message = Envelope(
        id=uuid4(),
        kind=passed.kind,
        category=Category.TIMEOUT,
        payload=passed.to_json(),
        saga_id=story.state.id,
    )
    decision = decide(story.saga, story.state, message)
    assert (decision.verdict, decision.send) == (Verdict.STALE, ())


def test_a_step_that_has_no_timeout_any_more_is_awaited_without_one() -> None:
    """Past the pivot a step whose time is over is awaited again by a replay."""
    overdue = begin(PAYMENT, TICKETS).done("payment").timed_out("tickets").expect_stuck()
    replayed = told(overdue, PAYMENT, replace(TICKETS, timeout=None)).replayed()
    assert (phase(replayed, "tickets"), replayed.state.status) == ("commanded", "running")
    assert replayed.decision is not None
    assert replayed.decision.send == ()
    # With the timeout that it had, it would be given its time once more.
    again = overdue.replayed()
    assert again.decision is not None
    assert [message.kind for message in again.decision.send] == [TimedOut.kind]


def test_a_late_success_of_what_has_no_compensation_any_more_is_recorded() -> None:
    begun = begin(FLIGHT, HOTEL).done("flight")
    yes = begun.done("hotel").consumed[-1]
    doubtful = begun.timed_out("hotel").not_revoked("hotel").expect(Undo(step="hotel"))
    undone = doubtful.done("hotel").done("flight").expect_compensated()
    assert undone.state.steps["hotel"].doubt
    changed = saga(FLIGHT, replace(HOTEL, compensation=None))
    late = decide(changed, undone.state, yes)
    assert (late.send, late.state.status) == ((), "compensated")
    assert not late.state.steps["hotel"].doubt
    # With the compensation that it had, it is undone once more.
    undone._hear(yes).expect(Undo(step="hotel"))


def test_an_event_that_is_no_outcome_of_a_step_in_doubt_means_nothing() -> None:
    begun = begin(FLIGHT, HOTEL).done("flight")
    doubtful = begun.timed_out("hotel").not_revoked("hotel")
    answer = begun.done("hotel").consumed[-1]
    other = replace(answer, kind=Denied.kind, payload=Denied().to_json())
    decision = decide(doubtful.saga, doubtful.state, other)
    assert (decision.verdict, decision.send) == (Verdict.STALE, ())


def test_a_failure_that_names_no_delivery_parks_none() -> None:
    begun = begin(FLIGHT)
    failed = replace(begun.faulted("flight", "boom").consumed[-1], causation_id=None)
    stuck = begun._hear(failed).expect_stuck()
    assert "boom" in (stuck.state.steps["flight"].fault or "")
    assert stuck.state.steps["flight"].parked == ()


# Skip and replay


def test_a_step_whose_command_is_being_revoked_is_not_skipped() -> None:
    """A pivot whose time is over fails further down: whether it is revoked is about to be known."""
    revoking = begin(PAYMENT).timed_out("payment").faulted("payment", "boom", downstream=True)
    assert phase(revoking.expect_stuck(), "payment") == "revoking"
    skip = Skipped(step="payment", reason="paid by hand")
    revoking.expect_refused(skip, "the command of step payment is being revoked")


def test_a_causal_undo_whose_own_order_failed_is_ordered_anew() -> None:
    causal = Step[Voyage](
        "flight", lambda voyage: Order(step="flight", price=voyage.price), compensation=CAUSAL
    )
    undoing = begin(causal, HOTEL).done("flight").rejected("hotel", "full")
    undoing.expect_undoing("flight")
    stuck = undoing.faulted("flight", "boom").expect_stuck()
    stuck.replayed().expect_undoing("flight").settled("flight").expect_compensated()


def test_a_step_that_commands_nothing_with_corrected_data_is_skipped_by_the_replay() -> None:
    def action(voyage: Voyage) -> Order | None:
        return Order(step="hotel", price=voyage.price) if voyage.price else None

    stuck = begin(FLIGHT, step("hotel", action=action)).done("flight").faulted("hotel", "no price")
    replayed = stuck.expect_stuck().replayed(price=0).expect_nothing().expect_completed()
    assert phase(replayed, "hotel") == "skipped"


def test_the_story_says_that_an_act_was_not_refused() -> None:
    with pytest.raises(AssertionError, match=r"saga\.cancelled is not refused"):
        begin(FLIGHT).expect_refused(Cancelled(reason="ill"))


def test_the_story_says_that_an_act_was_refused_for_another_reason() -> None:
    with pytest.raises(AssertionError, match="expected a refusal with 'paid', but it is: only a"):
        begin(FLIGHT).expect_refused(Skipped(step="flight", reason="lost"), "paid")


def test_the_story_says_that_a_second_delivery_had_an_effect() -> None:
    """The inbox takes a message once; told twice, a signal would end the next wait too."""
    signed = begin(sign(), replace(sign(), name="countersign"), FLIGHT).signal(Approved())
    with pytest.raises(AssertionError, match=r"a second boss\.approved had an effect: now"):
        signed.again()
