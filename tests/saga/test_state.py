"""States: what may become what, and nothing else."""

from uuid import UUID

import pytest
from pydantic import BaseModel

from saga import Phase, SagaState, Status, StepState
from saga.state import IN_FLIGHT, STANDING, STEP_TRANSITIONS, TRANSITIONS, start_id


class Trip(BaseModel):
    """No data."""


NEW = SagaState(UUID(int=1), Trip())


def with_steps(**steps: StepState) -> SagaState[Trip]:
    return SagaState(UUID(int=1), Trip(), steps=steps)


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", Status)
def test_a_saga_moves_along_the_table_only(before: Status, after: Status) -> None:
    state = SagaState(UUID(int=1), Trip(), before)
    if after is before or after in TRANSITIONS[before]:
        assert state.with_status(after).status is after
    else:
        with pytest.raises(ValueError, match=f"a saga cannot go from {before} to {after}"):
            state.with_status(after)


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", Phase)
def test_a_step_moves_along_the_table_only(before: Phase, after: Phase) -> None:
    state = with_steps(hotel=StepState(before))
    if after is before or after in STEP_TRANSITIONS[before]:
        assert state.with_step("hotel", phase=after).steps["hotel"].phase is after
    else:
        with pytest.raises(ValueError, match=f"step 'hotel' cannot go from {before} to {after}"):
            state.with_step("hotel", phase=after)


def test_only_the_two_good_ends_are_final() -> None:
    assert {status for status in Status if status.final} == {
        Status.COMPLETED,
        Status.COMPENSATED,
    }


def test_every_status_and_phase_stands_in_its_table() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert set(STEP_TRANSITIONS) == set(Phase)


def test_what_is_in_flight_can_be_answered_and_what_stands_can_be_undone() -> None:
    assert all(STEP_TRANSITIONS[phase] for phase in IN_FLIGHT)
    undoable = {phase for phase in Phase if Phase.COMPENSATING in STEP_TRANSITIONS[phase]}
    assert undoable == STANDING | {Phase.COMPENSATED}  # once more, after a late success


def test_moving_a_step_leaves_the_state_before_as_it_was() -> None:
    begun = NEW.with_step("hotel", phase=Phase.COMMANDED)
    done = begun.with_step("hotel", phase=Phase.DONE, position=2)
    assert NEW.steps == {}
    assert begun.steps == {"hotel": StepState(Phase.COMMANDED)}
    assert done.steps == {"hotel": StepState(Phase.DONE, position=2)}


def test_a_commands_id_follows_from_saga_step_phase_and_generation() -> None:
    other = SagaState(UUID(int=2), Trip())
    ids = {
        state.command_id(step, phase, generation)
        for state in (NEW, other)
        for step in ("hotel", "car")
        for phase in IN_FLIGHT
        for generation in (1, 2)
    }
    assert len(ids | {start_id(NEW.id), start_id(other.id)}) == 2**3 * len(IN_FLIGHT) + 2
    # Stored and sent: a change of the rule would send every command in flight once more.
    assert (
        str(NEW.command_id("hotel", Phase.COMMANDED, 1)) == "a6e416fc-f74f-5f6a-aea8-ac0437be8101"
    )
    assert str(start_id(NEW.id)) == "f686b4f7-a0b6-50c0-8ae3-a52ecbbc8aa0"


def test_nothing_went_wrong_so_there_is_no_reason() -> None:
    assert with_steps(hotel=StepState(Phase.DONE)).reason is None


def test_the_reason_is_why_the_business_said_no() -> None:
    state = with_steps(
        flight=StepState(Phase.COMPENSATED), hotel=StepState(Phase.REJECTED, rejection="no rooms")
    )
    assert state.reason == "step hotel: no rooms"


def test_what_is_parked_comes_first() -> None:
    state = SagaState(
        UUID(int=1),
        Trip(),
        steps={
            "hotel": StepState(Phase.REJECTED, rejection="no rooms"),
            "car": StepState(Phase.COMMANDED, fault="cars.rent is parked at cars: boom"),
        },
        faults={UUID(int=5): "hotels.unavailable is parked at saga.book_trip: bang"},
    )
    assert state.reason == (
        "hotels.unavailable is parked at saga.book_trip: bang; "
        "step car: cars.rent is parked at cars: boom"
    )


def test_the_first_no_is_the_reason_in_whatever_order_the_steps_are_stored() -> None:
    car = StepState(Phase.REJECTED, position=5, rejection="no cars")
    hotel = StepState(Phase.REJECTED, position=4, rejection="no rooms")
    assert with_steps(car=car, hotel=hotel).reason == "step hotel: no rooms"
    assert with_steps(hotel=hotel, car=car).reason == "step hotel: no rooms"


def test_several_faults_are_told_in_whatever_order_they_are_stored() -> None:
    car, hotel = (StepState(Phase.COMMANDED, fault=text) for text in ("boom", "bang"))
    assert with_steps(car=car, hotel=hotel).reason == with_steps(hotel=hotel, car=car).reason
