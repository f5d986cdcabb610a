"""Steps that wait until all below them is settled, and causal undo: rule 12 of `decide`."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from saga import CAUSAL, SETTLED, Command, DefinitionError, Event, Parallel, Saga, Step
from saga.causal import COUNTED
from saga.testing import Story, given


class Fair(BaseModel):
    name: str = "F1"


class Open(Command, kind="gate.open"):
    """Its reactions are what the step waits for."""


class Light(Command, kind="lamps.light"):
    pass


class Pay(Command, kind="till.pay"):
    pass


class Flooded(Event, kind="gate.flooded"):
    pass


class Lit(Event, kind="lamps.lit"):
    pass


GATE: Step[Any, Any] = Step("gate", lambda _: Open(), until=SETTLED, compensation=CAUSAL)
PAY: Step[Any, Any] = Step("pay", lambda _: Pay())


def begin(*steps: "Step[Fair] | Parallel[Fair]", **options: object) -> "Story[Fair]":
    return given(Saga("fair", Fair, steps=steps, **options), Fair())  # type: ignore[arg-type]


def test_the_command_asks_to_be_told_when_all_is_settled() -> None:
    assert GATE.awaits == ("saga.settled",)
    by_event: Step[Any, Any] = Step("lamps", lambda _: Light(), until=Lit, compensation=CAUSAL)
    assert by_event.awaits == ("lamps.lit", COUNTED)
    plain: Step[Any, Any] = Step("lamps", lambda _: Light(), until=Lit)
    assert plain.awaits == ("lamps.lit",)


def test_it_goes_on_when_all_is_settled_and_one_undo_is_ordered_for_all_of_it() -> None:
    story = begin(GATE, PAY).expect(Open).settled("gate").expect(Pay)
    story.rejected("pay", "no").expect_nothing().expect_undoing("gate").settled(
        "gate"
    ).expect_compensated()


def test_settled_again_or_late_changes_nothing() -> None:
    begin(GATE, PAY).settled("gate").again().done("pay").expect_completed()


@pytest.mark.parametrize("downstream", [False, True])
def test_a_no_undoes_what_was_done(downstream: bool) -> None:
    story = begin(GATE).rejected("gate", "flooded", downstream=downstream)
    if downstream:
        story = story.expect_undoing("gate").settled("gate")
    story.expect_compensated()


def test_an_event_may_say_no_as_well() -> None:
    gate: Step[Any, Any] = Step(
        "gate", lambda _: Open(), until=SETTLED, rejected_by=Flooded, compensation=CAUSAL
    )
    begin(gate).when(Flooded(), downstream=True).expect_undoing("gate")


def test_what_is_parked_below_leaves_it_stuck_until_all_is_settled_after_all() -> None:
    story = begin(GATE, PAY).faulted("gate", "no power", downstream=True)
    story.expect_stuck("no power").settled("gate").expect(Pay).done("pay").expect_completed()


def test_an_undo_that_is_parked_leaves_it_stuck_and_a_replay_lets_it_go_on() -> None:
    story = begin(GATE, PAY).settled("gate").rejected("pay", "no")
    story = story.faulted("gate", "cannot close", downstream=True).expect_stuck("cannot close")
    replayed = story.replayed().expect_nothing()
    assert replayed.decision is not None
    assert len(replayed.decision.retry) == 1
    assert replayed.decision.unwind == ()
    replayed.settled("gate").expect_compensated()


def test_a_deadline_undoes_what_was_begun_by_then() -> None:
    gate: Step[Any, Any] = Step(
        "gate",
        lambda _: Open(),
        until=SETTLED,
        compensation=CAUSAL,
        timeout=timedelta(minutes=1),
    )
    story = begin(gate).timed_out("gate").not_revoked("gate").expect_undoing("gate")
    story.settled("gate").expect_compensated()


def test_parallel_ones_are_undone_one_after_the_other() -> None:
    lamps: Step[Any, Any] = Step("lamps", lambda _: Light(), until=SETTLED, compensation=CAUSAL)
    story = begin(Parallel(GATE, lamps), PAY).settled("gate").settled("lamps")
    story = story.rejected("pay", "no").expect_undoing("lamps")
    story.settled("lamps").expect_undoing("gate").settled("gate").expect_compensated()


def test_all_commands_of_a_step_that_was_replayed_are_undone() -> None:
    story = begin(GATE, PAY).faulted("gate", "no power").replayed().expect(Open)
    story = story.settled("gate").rejected("pay", "no").expect_undoing("gate")
    assert story.decision is not None
    [(_, roots)] = story.decision.unwind
    assert len(roots) == 2


def test_nothing_is_undone_after_the_pivot() -> None:
    pivot: Step[Any, Any] = Step("pay", lambda _: Pay(), pivot=True)
    with pytest.raises(DefinitionError, match="has a compensation but stands at or after"):
        begin(pivot, GATE)
    after: Step[Any, Any] = Step("gate", lambda _: Open(), until=SETTLED)
    begin(pivot, after).done("pay").rejected("gate", "no").expect_stuck("after the pivot")


class TestStory:
    def test_a_step_that_ends_otherwise_is_not_settled(self) -> None:
        with pytest.raises(
            AssertionError, match=r"does not end when all is settled but by saga\.done"
        ):
            begin(PAY).settled("pay")

    def test_what_is_not_being_undone_is_told(self) -> None:
        with pytest.raises(AssertionError, match="what step 'gate' caused is not being undone"):
            begin(GATE).expect_undoing("gate")
