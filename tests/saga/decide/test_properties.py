"""Whatever the saga and however its messages come: it ends well, and undoes what it did.

Hypothesis invents a saga and a small world of contexts that carry out its commands; answers
arrive in any order, more than once, and next to ones that are long known.
"""

from hypothesis import HealthCheck, given, settings

from saga import Status, fold
from saga.state import IN_FLIGHT
from tests.saga.decide.random_sagas import (
    SAGA_ID,
    Do,
    Process,
    Turn,
    World,
    processes,
    schedules,
    told,
)

thorough = settings(
    max_examples=100,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no failure
)


unruly = schedules("once", "once", "again", "in other words")


parking = schedules("once", "once", "again", "in other words", "parked")


@thorough
@given(processes(), unruly)
def test_every_saga_ends_completed_or_compensated(process: Process, turns: list[Turn]) -> None:
    assert_ended_well(told(process, turns))


@thorough
@given(processes(), parking)
def test_also_when_messages_were_parked_at_the_saga_on_the_way(
    process: Process, turns: list[Turn]
) -> None:
    world = told(process, turns)
    assert_ended_well(world)
    assert world.state.faults == {}


def assert_ended_well(world: World) -> None:
    process = world.process
    begun = [process.plans[name] for name, s in world.state.steps.items() if s.phase != "skipped"]
    rejected = any(plan.answer != "yes" for plan in begun)
    assert world.state.status is (Status.COMPENSATED if rejected else Status.COMPLETED)
    assert not any(s.phase in IN_FLIGHT or s.fault for s in world.state.steps.values())
    if not rejected:
        assert set(world.state.steps) == set(process.plans)


@thorough
@given(processes(), unruly)
def test_what_stands_is_undone_once_in_reverse_order_of_completion(
    process: Process, turns: list[Turn]
) -> None:
    world = told(process, turns)
    if world.state.status is Status.COMPLETED:
        assert world.undone == []
        return
    expected = [name for name in world.learned if process.plans[name].undo == "command"]
    assert world.undone == expected[::-1]
    assert not any(process.plans[name].undo == "command" for name in world.standing)


@thorough
@given(processes(), unruly)
def test_the_consumed_messages_lead_to_the_same_state_again(
    process: Process, turns: list[Turn]
) -> None:
    world = told(process, turns)
    assert fold(process.saga, SAGA_ID, world.consumed) == world.state
    for message in tuple(world.consumed):
        world.consume(message)  # asserts that nothing moves any more
    assert fold(process.saga, SAGA_ID, world.consumed) == world.state


@thorough
@given(processes(), unruly)
def test_parallel_commands_are_under_way_together_and_groups_one_after_the_other(
    process: Process, turns: list[Turn]
) -> None:
    world = told(process, turns)
    ordered = [Do.from_json(o.payload).step for o in world.sent.values() if o.kind == Do.kind]
    wanted = [
        [s.name for s in group if not process.plans[s.name].skipped]
        for group in process.saga.groups
    ]
    assert ordered == [name for names in wanted for name in names][: len(ordered)]
    for names in wanted:
        assert not names or set(names) <= set(ordered) or not set(names) & set(ordered)
