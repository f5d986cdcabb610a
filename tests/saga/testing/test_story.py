"""Stories: what they say when a saga does as told, and what they say when it does not."""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from saga import Cancelled, Parallel, PayloadError, Replayed, Saga, Status, Step
from saga.testing import given
from tests.saga.testing.booking_saga import (
    BEGUN,
    BOOK_TRIP,
    FLOWN,
    SEATED,
    Booked,
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    ChargeCard,
    FlightUnavailable,
    IssueTickets,
    RentCar,
    ReserveFlight,
    SeatingAssigned,
    Trip,
)


def fails(tell: Any) -> str:
    """Tell something that is not so; return the sentence that says it."""
    with pytest.raises(AssertionError) as failure:
        tell()
    return str(failure.value)


# What is so


def test_a_trip_that_goes_well() -> None:
    story = (
        given(BOOK_TRIP, Trip())
        .expect(ReserveFlight(trip="T1", seats=2))
        .when(SEATED)
        .expect(RentCar(trip="T1"), BookHotel(trip="T1", rooms=1))
        .done("car")
        .expect_nothing()
        .when(Booked())
        .expect(ChargeCard)
        .done("payment")
        .expect(IssueTickets(seats=("1A", "1B")))
        .done("tickets")
        .expect_nothing()
        .expect_completed()
    )
    assert story.data == Trip(seats=("1A", "1B"))
    assert story.state.status is Status.COMPLETED


def test_a_trip_that_is_undone() -> None:
    (
        given(BOOK_TRIP, Trip())
        .expect(ReserveFlight)
        .when(SEATED)
        .expect(BookHotel, RentCar)
        .done("car")
        .rejected("hotel", "no rooms")
        .expect(CancelCar(trip="T1"))
        .done("car")
        .expect(CancelFlight(trip="T1"))
        .done("flight")
        .expect_compensated()
    )


def test_a_rejection_by_the_commands_own_handler_leaves_nothing_to_undo() -> None:
    BEGUN.when(FlightUnavailable()).expect_nothing().expect_compensated()
    BEGUN.rejected("flight", "full").expect_nothing().expect_compensated()


def test_a_rejection_from_further_down_does() -> None:
    BEGUN.when(FlightUnavailable(), downstream=True).expect(CancelFlight)
    BEGUN.rejected("flight", "no seats together", downstream=True).expect(CancelFlight)


def test_a_fault_waits_for_a_person() -> None:
    stuck = BEGUN.faulted("flight", "boom").expect_nothing()
    stuck.expect_stuck().expect_stuck("flights.reserve is parked at flights: boom")
    stuck.when(SEATED).expect(BookHotel, RentCar)


def test_a_compensation_may_be_rejected_or_fault_too() -> None:
    undone = FLOWN.when(Booked()).rejected("car", "none left").expect(CancelHotel)
    undone.rejected("hotel", "too late").expect_stuck("its compensation was rejected: too late")
    undone.faulted("hotel", "boom").expect_stuck("hotels.cancel is parked at hotels: boom")


def test_every_message_may_come_again() -> None:
    (
        given(BOOK_TRIP, Trip())
        .again()
        .when(SEATED)
        .again()
        .expect_nothing()
        .rejected("hotel", "no rooms")
        .again()
        .faulted("car", "boom")
        .again()
        .done("car")
        .again()
        .done("car")
        .again()
        .done("flight")
        .again()
        .again()
        .expect_compensated()
    )


def test_two_steps_that_await_the_same_event_are_told_apart() -> None:
    both = replace(
        BOOK_TRIP,
        steps=(
            Parallel(
                Step("hotel", lambda trip: BookHotel(trip=trip.name, rooms=1), until=Booked),
                Step("car", lambda trip: RentCar(trip=trip.name), until=Booked),
            ),
        ),
    )
    begun = given(both, Trip())
    assert fails(lambda: begun.when(Booked())) == (
        "hotel and car await bookings.booked; say which: step='hotel'"
    )
    begun.when(Booked(), step="car").when(Booked()).expect_completed()


def test_two_stories_may_share_their_beginning() -> None:
    hotel_first = FLOWN.when(Booked()).rejected("car", "none left")
    car_first = FLOWN.done("car").rejected("hotel", "no rooms")
    hotel_first.expect(CancelHotel)
    car_first.expect(CancelCar)
    FLOWN.expect(BookHotel, RentCar)


def test_the_same_command_may_be_expected_twice() -> None:
    twins = replace(
        BOOK_TRIP,
        steps=(
            Parallel(
                Step("one", lambda trip: RentCar(trip=trip.name)),
                Step("two", lambda trip: RentCar(trip="T2")),  # noqa: ARG005
            ),
        ),
    )
    begun = given(twins, Trip())
    begun.expect(RentCar, RentCar).expect(RentCar, RentCar(trip="T1"))
    begun.expect(RentCar(trip="T2"), RentCar(trip="T1"))
    assert "sent, not expected: cars.rent" in fails(lambda: begun.expect(RentCar(trip="T1")))
    assert fails(lambda: begun.expect(RentCar, RentCar, RentCar)).splitlines()[1:-1] == [
        "  not sent: cars.rent"
    ]


# What is not so, in sentences


def test_another_command_than_expected_is_shown_field_by_field() -> None:
    told = fails(
        lambda: FLOWN.expect(BookHotel(trip="T2", rooms=3), RentCar(trip="T1", extras=("seat",)))
    )
    assert told == (
        "after seating.assigned\n"
        "  hotels.book: trip is 'T1', not 'T2'\n"
        "  hotels.book: rooms is 1, not 3\n"
        "  cars.rent: extras is [], not ['seat']\n"
        "  book_trip is running; in flight: hotel, car"
    )


def test_what_is_missing_or_too_much_is_named() -> None:
    assert fails(lambda: FLOWN.expect(BookHotel, ChargeCard, IssueTickets(seats=("1A",)))) == (
        "after seating.assigned\n"
        '  not sent: tickets.issue {"seats":["1A"]}\n'
        "  not sent: payments.charge\n"
        '  sent, not expected: cars.rent {"trip":"T1","extras":[]}\n'
        "  book_trip is running; in flight: hotel, car"
    )


def test_something_is_no_nothing() -> None:
    assert "sent, not expected: flights.reserve" in fails(BEGUN.expect_nothing)


def test_a_command_that_was_sent_earlier_is_not_sent_now() -> None:
    assert "not sent: flights.reserve" in fails(lambda: FLOWN.expect(ReserveFlight))
    assert "not sent: hotels.book" in fails(lambda: FLOWN.done("car").expect(BookHotel))


def test_a_status_that_is_not_reached_says_where_the_saga_stands() -> None:
    stuck = BEGUN.faulted("flight", "boom")
    because = "because step flight: flights.reserve is parked at flights: boom; in flight: flight"
    assert fails(BEGUN.expect_completed) == (
        "expected completed, but book_trip is running; in flight: flight"
    )
    assert fails(stuck.expect_compensated) == (
        f"expected compensated, but book_trip is stuck, {because}"
    )
    assert fails(lambda: stuck.expect_stuck("bang")) == (
        f"expected a reason with 'bang', but book_trip is stuck, {because}"
    )
    undone = BEGUN.rejected("flight", "full")
    assert fails(lambda: undone.expect_stuck("full")) == (
        "expected stuck, but book_trip is compensated, because step flight: full"
    )


def test_an_event_that_nobody_awaits_names_what_is_awaited() -> None:
    assert fails(lambda: BEGUN.when(Booked())) == (
        "no step awaits bookings.booked: flight awaits seating.assigned or flights.unavailable"
    )
    assert fails(lambda: FLOWN.when(Booked(), step="car")) == (
        "no step awaits bookings.booked: car awaits saga.done"
    )
    over = BEGUN.rejected("flight", "full")
    assert fails(lambda: over.when(SEATED)) == (
        "no step awaits seating.assigned: book_trip is compensated, because step flight: full"
    )


@pytest.mark.parametrize(
    "answer",
    [
        lambda story, step: story.done(step),
        lambda story, step: story.rejected(step, "no"),
        lambda story, step: story.faulted(step, "boom"),
        lambda story, step: story.when(SEATED, step=step),
    ],
    ids=["done", "rejected", "faulted", "when"],
)
def test_a_step_that_is_not_in_flight_hears_nothing(answer: Any) -> None:
    assert fails(lambda: answer(BEGUN, "boat")) == (
        "book_trip has no step 'boat'; it has flight, hotel, car, payment, tickets"
    )
    assert fails(lambda: answer(BEGUN, "car")) == (
        "step 'car' awaits nothing; book_trip is running; in flight: flight"
    )
    assert fails(lambda: answer(FLOWN, "flight")) == (
        "step 'flight' awaits nothing; book_trip is running; in flight: hotel, car"
    )


def test_a_step_that_waits_for_an_event_is_not_ended_by_a_reply() -> None:
    assert fails(lambda: BEGUN.done("flight")) == (
        "step 'flight' is not ended by a reply but by seating.assigned: use when()"
    )


# What a story finds out about the saga's own functions


def booking(**changes: Any) -> Saga[Trip]:
    """One step, of which something is not as it should be."""
    step: Step[Trip, Any] = Step(
        "flight", lambda trip: ReserveFlight(trip=trip.name), until=SeatingAssigned
    )
    return Saga("booking", Trip, (replace(step, **changes),))


def test_a_function_that_is_not_pure_is_found() -> None:
    prices = count()
    impure = booking(on_success=lambda trip, _: trip.model_copy(update={"price": next(prices)}))
    story = given(impure, Trip()).when(SEATED)
    assert "one of its functions is not pure" in fails(story.expect_completed)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_data_that_comes_back_as_something_else_is_found() -> None:
    listed = booking(on_success=lambda trip, _: trip.model_copy(update={"seats": ["1A"]}))
    with pytest.raises((AssertionError, PayloadError), match="not come back equal from JSON"):
        given(listed, Trip()).when(SEATED).expect_completed()


def test_data_that_cannot_be_stored_is_found_at_the_message_that_made_it() -> None:
    broken = booking(on_success=lambda trip, _: trip.model_copy(update={"name": "\0"}))
    with pytest.raises(PayloadError, match=r"booking: the data after seating\.assigned: .* NUL"):
        given(broken, Trip()).when(SEATED)


def test_the_data_that_a_test_passes_in_is_not_changed() -> None:
    def forget(trip: Trip, event: SeatingAssigned) -> Trip:
        trip.name = "forgotten"
        return trip

    trip = Trip()
    given(booking(on_success=forget), trip).when(SEATED).expect_completed()
    assert trip.name == "T1"


def test_what_a_function_raises_comes_through() -> None:
    buggy = booking(on_success=lambda trip, _: trip.no_such_field)
    with pytest.raises(AttributeError, match="no_such_field"):
        given(buggy, Trip()).when(SEATED)


# Deadlines, doubts and operators


def test_a_deadline_passes_only_where_one_is_running() -> None:
    limited = booking(timeout=timedelta(minutes=1), compensation=lambda _: CancelFlight(trip="T1"))
    begun = given(limited, Trip())
    begun.timed_out("flight").revoked("flight").expect_nothing().expect_compensated()
    begun.timed_out("flight").not_revoked("flight").expect(CancelFlight)
    assert fails(lambda: BEGUN.timed_out("flight")) == (
        "no deadline of flight is running; book_trip is running; in flight: flight"
    )
    assert "no deadline of the saga is running" in fails(begun.timed_out)
    assert "no deadline of flight is running" in fails(
        lambda: begun.when(SEATED).timed_out("flight")
    )
    late = begun.timed_out("flight")
    assert "no deadline of flight is running" in fails(lambda: late.timed_out("flight"))


def test_only_what_is_being_taken_back_is_taken_back() -> None:
    assert fails(lambda: BEGUN.revoked("flight")) == (
        "the command of step 'flight' is not being revoked; book_trip is running; in flight: flight"
    )


def test_a_refused_act_says_why() -> None:
    assert fails(BEGUN.replayed) == (
        "saga.replayed is refused: it is running, and only a stuck saga can be replayed"
    )
    BEGUN.expect_refused(Replayed(reason="r"), "only a stuck saga").expect(ReserveFlight)
    assert fails(lambda: BEGUN.expect_refused(Replayed(reason="r"), "nonsense")) == (
        "expected a refusal with 'nonsense', but it is: "
        "it is running, and only a stuck saga can be replayed"
    )
    assert fails(lambda: BEGUN.expect_refused(Cancelled(reason="ill"))) == (
        "saga.cancelled is not refused; book_trip is running; in flight: flight"
    )
