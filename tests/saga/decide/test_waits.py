"""`decide` and the messages from outside that a saga waits for (rules 8 and 10)."""

from dataclasses import replace

import pytest

from saga import Category, Event, Parallel, Verdict
from saga.state import start_id
from saga.testing import Story
from tests.saga.decide.timed_sagas import (
    FLIGHT,
    HOTEL,
    MINUTE,
    PAYMENT,
    Approved,
    Declined,
    Denied,
    Order,
    Undo,
    Voyage,
    begin,
    phase,
    sign,
    step,
)


class Audited(Event, kind="boss.audited"):
    """Something else that comes from outside."""


MILES = step("miles", undo=False)
WAITING = begin(FLIGHT, sign(timeout=MINUTE), MILES).done("flight")


def cleared(story: Story[Voyage]) -> tuple[object, ...]:
    assert story.decision is not None
    return story.decision.clear


def verdict(story: Story[Voyage]) -> Verdict:
    assert story.decision is not None
    return story.decision.verdict


def test_it_sends_nothing_but_its_deadline() -> None:
    story = WAITING.expect_nothing()
    assert phase(story, "sign") == "waiting"
    assert story.state.status == "running"
    assert story.decision is not None
    (timer,) = story.decision.send
    assert (timer.category, timer.delay) == (Category.TIMEOUT, 60.0)
    assert timer.root_id == start_id(story.state.id)
    quiet = begin(FLIGHT, sign()).done("flight").decision
    assert quiet is not None
    assert quiet.send == ()


def test_the_message_ends_it_and_its_deadline() -> None:
    story = WAITING.signal(Approved(by="Bob")).expect(Order(step="miles"))
    assert story.data.kept == ("flight", "signed by Bob")
    assert cleared(story) == (story.state.timer_id("sign", 1),)
    story = story.again().signal(Approved(by="Eve")).expect_nothing()
    assert verdict(story) is Verdict.STALE
    story.done("miles").expect_completed()


def test_it_is_not_undone_itself() -> None:
    story = WAITING.signal(Approved()).rejected("miles", "no").expect(Undo(step="flight"))
    story.done("flight").expect_compensated()


def test_a_no_turns_the_saga_back() -> None:
    story = WAITING.signal(Denied(reason="too dear")).expect(Undo(step="flight")).again()
    assert story.state.reason == "step sign: boss.denied: too dear"
    assert cleared(WAITING.signal(Denied())) == (story.state.timer_id("sign", 1),)
    story.signal(Approved()).expect_nothing().done("flight").expect_compensated()


def test_silence_is_a_no() -> None:
    story = WAITING.timed_out("sign").expect(Undo(step="flight")).again()
    story = story.done("flight").expect_compensated()
    assert story.state.reason == "step sign: no outcome within 0:01:00"
    assert verdict(story.signal(Approved())) is Verdict.STALE


def test_the_deadline_of_the_saga_ends_it_too() -> None:
    story = begin(FLIGHT, sign(), deadline=MINUTE).done("flight").timed_out()
    story.expect(Undo(step="flight")).done("flight").expect_compensated()


def test_what_comes_early_is_kept() -> None:
    story = begin(FLIGHT, sign(timeout=MINUTE), MILES).signal(Approved(by="Bob")).expect_nothing()
    assert [early.payload for early in story.state.early] == ['{"by":"Bob"}']
    story = story.again().done("flight").expect(Order(step="miles"))
    assert (phase(story, "sign"), story.state.early) == ("done", ())
    assert story.data.kept == ("flight", "signed by Bob")
    assert cleared(story) == ()
    story.done("miles").expect_completed()


def test_an_early_no_is_kept_as_well() -> None:
    story = begin(FLIGHT, sign(), MILES).signal(Denied()).expect_nothing()
    assert story.state.reason is None
    story.done("flight").expect(Undo(step="flight")).done("flight").expect_compensated()


def test_an_early_one_may_end_the_saga_at_its_start() -> None:
    begin(sign()).signal(Approved()).expect_completed()
    begin(sign()).signal(Denied()).expect_compensated()
    begin(FLIGHT, sign()).signal(Approved()).done("flight").expect_completed()


def test_two_that_come_early_are_kept_both_and_taken_in_their_order() -> None:
    story = begin(FLIGHT, sign(), sign(name="countersign")).signal(Approved(by="Ann"))
    story = story.signal(Approved(by="Bob")).again().done("flight").expect_completed()
    assert story.data.kept == ("flight", "signed by Ann", "signed by Bob")
    assert story.state.early == ()


@pytest.mark.parametrize("first", [Denied(), Approved()])
def test_of_two_kinds_the_one_that_came_first_counts(first: Event) -> None:
    second = Approved() if isinstance(first, Denied) else Denied()
    late = begin(FLIGHT, sign(), MILES).done("flight").signal(first).signal(second)
    early = begin(FLIGHT, sign(), MILES).signal(first).signal(second).done("flight")
    for story in (early, late):
        assert phase(story, "sign") == ("rejected" if isinstance(first, Denied) else "done")
    assert [kept.kind for kept in early.state.early] == [second.kind]


def test_each_wait_takes_the_first_of_its_kinds() -> None:
    audit = replace(sign(name="audit"), until=Audited, rejected_by=(), on_success=None)
    story = begin(FLIGHT, sign(), audit).signal(Audited()).signal(Approved(by="Bob"))
    story = story.signal(Denied()).done("flight").expect_completed()
    assert story.data.kept == ("flight", "signed by Bob")
    assert [kept.kind for kept in story.state.early] == [Denied.kind]


def test_one_that_is_not_taken_stays_for_the_next_wait() -> None:
    story = begin(FLIGHT, sign(), HOTEL, sign(name="countersign")).signal(Approved(by="Ann"))
    story = story.signal(Approved(by="Bob")).done("flight").expect(Order(step="hotel"))
    assert [early.payload for early in story.state.early] == ['{"by":"Bob"}']
    assert story.done("hotel").expect_completed().data.kept[-1] == "signed by Bob"


def test_two_waits_for_the_same_each_take_one() -> None:
    story = begin(sign(), FLIGHT, sign(name="countersign"))
    story = story.signal(Approved(by="Ann")).signal(Approved(by="Bob")).expect_nothing()
    story = story.done("flight").expect_completed()
    assert story.data.kept == ("signed by Ann", "flight", "signed by Bob")


def test_what_no_step_waits_for_is_unexpected() -> None:
    with pytest.raises(AssertionError, match=r"no step of voyage waits for voyage\.declined"):
        WAITING.signal(Declined())
    with pytest.raises(AssertionError, match="waits for an outside message: use signal"):
        WAITING.done("sign")


# After the pivot


PAID = begin(PAYMENT, sign(timeout=MINUTE), MILES).done("payment")


@pytest.mark.parametrize("no", ["denied", "silent"])
def test_a_no_after_the_pivot_leaves_it_stuck_until_a_yes(no: str) -> None:
    stuck = PAID.timed_out("sign") if no == "silent" else PAID.signal(Denied())
    stuck = stuck.expect_nothing().expect_stuck("step sign: ")
    stuck.signal(Approved()).expect(Order(step="miles")).done("miles").expect_completed()
    stuck.skipped("sign", "by phone").expect(Order(step="miles"))


@pytest.mark.parametrize("no", ["denied", "silent"])
@pytest.mark.parametrize("first", [None, "sign"])
def test_a_replay_waits_once_more_with_a_new_deadline(no: str, first: str | None) -> None:
    stuck = PAID.timed_out("sign") if no == "silent" else PAID.signal(Denied())
    story = stuck.replayed(from_step=first).expect_nothing()
    assert (phase(story, "sign"), story.state.status) == ("waiting", "running")
    assert story.state.steps["sign"].generation == 2
    story.timed_out("sign").expect_stuck("no outcome within")
    story.signal(Approved()).done("miles").expect_completed()


def test_an_early_no_after_the_pivot_leaves_it_stuck() -> None:
    story = begin(PAYMENT, sign(), MILES).signal(Denied()).done("payment").expect_nothing()
    story.expect_stuck("rejected after the pivot").signal(Approved()).expect(Order(step="miles"))


def test_one_that_comes_while_it_compensates_waits_for_nobody() -> None:
    story = begin(FLIGHT, Parallel(HOTEL, step("car")), sign()).done("flight")
    story = story.rejected("hotel", "no").signal(Approved()).expect_nothing()
    story.revoked("car").expect(Undo(step="flight")).done("flight").expect_compensated()
