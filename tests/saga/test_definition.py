"""Definitions: what is wrong is found at construction, in one sentence with the way out."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from saga import Command, DefinitionError, Done, Event, Parallel, Saga, Step, Wait


class Trip(BaseModel):
    """The data."""

    reference: str = "T1"


class Order(Command, kind="travel.order"):
    """What every step here commands."""


class Ordered(Event, kind="travel.ordered"):
    """It is done."""


class Declined(Event, kind="travel.declined"):
    """It is not."""


class Nameless(Event):
    """A family of events, which no message is ever sent as."""


def order(trip: Trip) -> Order:
    return Order()


def step(name: str, **changes: Any) -> Step[Trip]:
    return Step(name, order, **changes)


def saga(*steps: Any, **changes: Any) -> Saga[Trip]:
    return Saga(**{"name": "book_trip", "data": Trip, "steps": steps, **changes})


def error_of(construct: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as error:
        construct()
    return str(error.value)


# What a definition tells


def test_a_plain_step_ends_when_the_commands_handler_is_done() -> None:
    car = step("car")
    assert car.outcome is Done
    assert car.awaits == ("saga.done",)
    assert car.rejections == ()


def test_a_step_with_until_waits_for_that_event_or_for_its_refusals() -> None:
    hotel = step("hotel", until=Ordered, rejected_by=Declined)
    assert hotel.outcome is Ordered
    assert hotel.awaits == ("travel.ordered", "travel.declined")


def test_several_events_may_say_no() -> None:
    class Cancelled(Event, kind="travel.cancelled"):
        pass

    assert step("hotel", rejected_by=(Declined, Cancelled)).rejections == (Declined, Cancelled)


def test_a_saga_lists_its_steps_in_order_and_in_groups() -> None:
    flight, hotel, car, pay = (step(name) for name in ("flight", "hotel", "car", "pay"))
    booking = saga(flight, Parallel(hotel, car), pay)
    assert list(booking) == [flight, hotel, car, pay]
    assert booking.groups == ((flight,), (hotel, car), (pay,))
    assert booking.step("car") is car
    assert booking.version == 1
    with pytest.raises(KeyError, match="boat"):
        booking.step("boat")


def test_the_pivot_is_known_by_name() -> None:
    assert saga(step("flight")).pivot is None
    assert saga(step("flight"), step("pay", pivot=True), step("tickets")).pivot == "pay"


def test_the_pivot_may_be_first_and_what_comes_before_it_may_be_undone() -> None:
    assert saga(step("pay", pivot=True)).pivot == "pay"
    assert saga(step("a", compensation=order), step("pay", pivot=True)).pivot == "pay"


def test_a_definition_is_a_value() -> None:
    booking = saga(step("flight"))
    assert booking == saga(step("flight"))
    assert hash(booking) == hash(saga(step("flight")))
    with pytest.raises(FrozenInstanceError):
        booking.version = 2  # type: ignore[misc]


def test_parallel_steps_are_a_value() -> None:
    group = Parallel(step("hotel"), step("car"))
    assert group.steps == (step("hotel"), step("car"))
    assert group == Parallel(step("hotel"), step("car")) != Parallel(step("car"), step("hotel"))
    assert hash(group) == hash(Parallel(step("hotel"), step("car")))
    assert saga(group) == saga(Parallel(step("hotel"), step("car")))
    assert repr(group).startswith("Parallel(steps=(Step(name='hotel'")
    with pytest.raises(FrozenInstanceError):
        group.steps = ()  # type: ignore[misc]


# What is wrong with a step

BAD_NAMES = ["", "Flight", "book flight", "2nd", "_x", "book-trip", "flight\n", 7, None, ["flight"]]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_steps_name_is_a_lower_case_word(name: Any) -> None:
    text = error_of(lambda: step(name))
    assert text == f"Step {name!r}: a step's name must be a lower-case word such as 'flight'"


def _any(wrong: Any) -> Any:
    """What no type checker would let pass."""
    return wrong


@pytest.mark.parametrize("role", ["action", "on_success", "compensation"])
def test_what_a_step_does_is_a_function(role: str) -> None:
    text = error_of(lambda: Step(**_any({"name": "flight", "action": order, role: Order()})))
    assert text == f"Step 'flight': {role} must be a function"


def test_a_step_cannot_do_without_an_action() -> None:
    assert (
        error_of(lambda: Step("flight", _any(None))) == "Step 'flight': action must be a function"
    )


@pytest.mark.parametrize("role", ["until", "rejected_by"])
@pytest.mark.parametrize("event", [Order, Nameless, Event, Done, Ordered(), "travel.ordered", int])
def test_an_outcome_is_an_event_that_has_a_name(role: str, event: Any) -> None:
    text = error_of(lambda: step("flight", **{role: event}))
    assert text == (
        f"Step 'flight': {role} must name an Event class that declares a kind, not {event!r}"
    )


def test_each_of_several_refusals_is_looked_at() -> None:
    assert "rejected_by must name" in error_of(lambda: step("a", rejected_by=(Declined, Order)))
    assert "rejected_by must name" in error_of(lambda: step("a", rejected_by=[Declined]))


def test_one_event_cannot_mean_yes_and_no() -> None:
    text = error_of(lambda: step("flight", until=Ordered, rejected_by=(Declined, Ordered)))
    assert text == "Step 'flight': travel.ordered cannot both end and reject the step"


# What is wrong with a group


@pytest.mark.parametrize("steps", [(), (step("hotel"),)])
def test_one_step_alone_is_not_parallel(steps: tuple[Step[Trip], ...]) -> None:
    assert error_of(lambda: Parallel(*steps)) == "Parallel: give it two steps or more"


def test_a_group_holds_steps_only() -> None:
    inner: Any = Parallel(step("hotel"), step("car"))
    assert error_of(lambda: Parallel(step("flight"), inner)).endswith("is not a Step")


def test_a_pivot_stands_alone() -> None:
    text = error_of(lambda: Parallel(step("hotel"), step("pay", pivot=True)))
    assert text == (
        "Step 'pay': a pivot cannot run in parallel with other steps; make it a step of its own"
    )


# What is wrong with a saga


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_sagas_name_is_a_lower_case_word(name: Any) -> None:
    text = error_of(lambda: saga(step("flight"), name=name))
    assert text == f"Saga {name!r}: a saga's name must be a lower-case word such as 'book_trip'"


@pytest.mark.parametrize("data", [dict, Trip(), None, "Trip"])
def test_the_data_is_a_model(data: Any) -> None:
    text = error_of(lambda: saga(step("flight"), data=data))
    assert text == "Saga 'book_trip': data must be a pydantic model class"


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None])
def test_versions_count_from_one(version: Any) -> None:
    text = error_of(lambda: saga(step("flight"), version=version))
    assert text == "Saga 'book_trip': version must be 1 or more"


@pytest.mark.parametrize("steps", [(), [], [step("flight")], None, step("flight")])
def test_the_steps_are_a_tuple(steps: Any) -> None:
    text = error_of(lambda: saga(steps=steps))
    assert text == "Saga 'book_trip': steps must be a tuple of one step or more"


def test_a_wait_cannot_end_and_be_rejected_by_the_same() -> None:
    text = error_of(lambda: Wait("sign", until=Ordered, rejected_by=Ordered))
    assert text == f"Wait 'sign': {Ordered.kind} cannot both end and reject the step"


@pytest.mark.parametrize("wrong", [5, timedelta(0), timedelta(seconds=-1)])
def test_a_timeout_is_longer_than_nothing(wrong: Any) -> None:
    text = "a timeout or deadline must be a positive timedelta"
    assert error_of(lambda: Wait("sign", until=Ordered, timeout=wrong)) == f"'sign': {text}"
    assert error_of(lambda: Step("flight", order, timeout=wrong)) == f"'flight': {text}"
    assert error_of(lambda: saga(step("flight"), deadline=wrong)) == f"'book_trip': {text}"


def test_what_an_error_does_is_one_of_two_words() -> None:
    assert "on_fault must be" in error_of(lambda: Step("flight", order, on_fault=_any("go")))
    assert "a pivot cannot have on_fault='compensate'" in error_of(
        lambda: Step("flight", order, pivot=True, on_fault="compensate")
    )
    assert "must be 'stop' or 'go_on', not 'x'" in error_of(
        lambda: saga(step("flight"), on_compensation_fault="x")
    )


@pytest.mark.parametrize("wrong", [order, (step("hotel"), step("car")), None, Step])
def test_and_of_nothing_else(wrong: Any) -> None:
    text = error_of(lambda: saga(step("flight"), wrong))
    assert text == f"Saga 'book_trip': {wrong!r} is neither Step nor Wait nor Parallel"


@pytest.mark.parametrize(
    "steps",
    [
        (step("hotel"), step("hotel")),
        (step("hotel"), Parallel(step("car"), step("hotel"))),
        (Parallel(step("hotel"), step("hotel")),),
    ],
)
def test_no_two_steps_are_called_the_same(steps: Any) -> None:
    assert error_of(lambda: saga(*steps)) == (
        "Saga 'book_trip': two steps are called 'hotel'; "
        "stored state names steps, so each needs its own name"
    )


def test_there_is_one_point_of_no_return() -> None:
    text = error_of(lambda: saga(step("pay", pivot=True), step("tickets", pivot=True)))
    assert text == (
        "Saga 'book_trip': steps 'pay' and 'tickets' are both marked pivot; a saga has at most one"
    )


@pytest.mark.parametrize(
    "steps",
    [
        (step("pay", pivot=True, compensation=order),),
        (step("pay", pivot=True), step("tickets"), step("pay_back", compensation=order)),
        (step("pay", pivot=True), Parallel(step("a"), step("b", compensation=order))),
    ],
)
def test_nothing_is_undone_from_the_pivot_on(steps: Any) -> None:
    last = list(saga_steps(steps))[-1]
    assert error_of(lambda: saga(*steps)) == (
        f"Saga 'book_trip': step {last!r} has a compensation but stands at or after the pivot "
        "'pay', from where the saga only goes forward"
    )


def saga_steps(steps: Any) -> list[str]:
    """The names of these steps, those of groups among them."""
    return [s.name for entry in steps for s in getattr(entry, "steps", (entry,))]


@pytest.mark.parametrize("retry", [3, "often", {"attempts": 3}])
def test_a_retry_policy_is_a_retry(retry: Any) -> None:
    text = error_of(lambda: step("flight", retry=retry))
    assert text == f"Step 'flight': retry must be a Retry, such as Retry(attempts=3), not {retry!r}"


def test_two_classes_of_one_kind_cannot_mean_yes_and_no() -> None:
    class Twin(Event, kind="travel.ordered"):
        pass

    text = error_of(lambda: step("flight", until=Ordered, rejected_by=Twin))
    assert text == "Step 'flight': travel.ordered cannot both end and reject the step"


@pytest.mark.parametrize("key", ["reference", 7])
def test_a_key_is_a_function(key: Any) -> None:
    text = error_of(lambda: saga(step("flight"), key=key))
    assert text == "Saga 'book_trip': key must be a function of the data, or None"
