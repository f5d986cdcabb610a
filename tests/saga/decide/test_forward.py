"""`decide` on the way forward, and what it makes of messages that it does not await."""

from collections.abc import Callable
from typing import Any

Tell = Callable[..., Any]


# Forward


def test_all_goes_well(tell: Tell) -> None:
    tell(
        """
        start            | flight         | running
        flight says yes  | hotel, car     | running
        hotel says yes   | -              | running
        car says yes     | payment        | running
        payment says yes | tickets, miles | running
        miles says yes   | -              | running
        tickets says yes | -              | completed
        """,
    )


def test_what_the_traveller_does_without_is_skipped(tell: Tell) -> None:
    tell(
        """
        start            | flight  | running
        flight says yes  | payment | running
        payment says yes | miles   | running
        miles says yes   | -       | completed
        """,
        without=("hotel", "car", "tickets"),
    )


def test_one_of_two_may_be_skipped(tell: Tell) -> None:
    tell(
        """
        start           | flight  | running
        flight says yes | car     | running
        car says yes    | payment | running
        """,
        without=("hotel",),
    )


def test_a_saga_of_which_nothing_is_wanted_is_completed_at_once(tell: Tell) -> None:
    tell(
        """
        start | - | completed
        """,
        saga="ask_first",
        without=("flight", "weather", "hotel"),
    )


def test_skipped_steps_at_the_start_and_the_end(tell: Tell) -> None:
    tell(
        """
        start            | weather | running
        weather says yes | -       | completed
        """,
        saga="ask_first",
        without=("flight", "hotel"),
    )


# Rule 2: repeated, late, unexpected


def test_what_is_repeated_has_no_effect(tell: Tell) -> None:
    tell(
        """
        start                 | flight     | running
        start again           | stale      | running
        flight says yes       | hotel, car | running
        flight says yes again | stale      | running
        start again           | stale      | running
        car says yes          | -          | running
        car says yes again    | stale      | running
        hotel says yes        | payment    | running
        """,
    )


def test_a_second_outcome_of_the_same_step_is_late_whatever_it_says(tell: Tell) -> None:
    tell(
        """
        start                   | flight     | running
        flight says yes         | hotel, car | running
        another flight says yes | stale      | running
        flight says no          | stale      | running
        flight says a bare no   | stale      | running
        flight says fault       | stale      | running
        """,
    )


def test_a_rejection_may_be_repeated_and_contradicted_too(tell: Tell) -> None:
    tell(
        """
        start                | flight | running
        flight says no       | -      | compensated
        flight says no again | stale  | compensated
        flight says yes      | stale  | compensated
        """,
        reason="step flight: travel.declined: sold out",
    )


def test_an_outcome_that_comes_while_the_step_is_undone_is_late(tell: Tell) -> None:
    tell(
        """
        start                         | flight      | running
        flight says yes               | weather     | running
        weather says no               | undo flight | compensating
        flight says yes again         | stale       | compensating
        another flight says yes       | stale       | compensating
        flight says no                | stale       | compensating
        flight says fault             | stale       | compensating
        undo flight says done         | -           | compensated
        undo flight says done again   | stale       | compensated
        another undo flight says done | stale       | compensated
        undo flight says fault        | stale       | compensated
        """,
        saga="ask_first",
    )


def test_what_this_saga_never_asked_for_is_unexpected(tell: Tell) -> None:
    tell(
        """
        start                      | flight     | running
        nobody says yes            | unexpected | running
        nobody says a bare no      | unexpected | running
        nobody says fault          | unexpected | running
        flight says something else | unexpected | running
        flight says done           | unexpected | running
        flight says yes            | hotel, car | running
        hotel says something else  | unexpected | running
        """,
    )


def test_a_step_that_is_not_begun_awaits_nothing(tell: Tell) -> None:
    tell(
        """
        start          | flight     | running
        hotel says yes | unexpected | running
        """,
    )


def test_a_compensation_is_answered_by_its_own_handler_only(tell: Tell) -> None:
    tell(
        """
        start                           | flight      | running
        flight says yes                 | weather     | running
        weather says no                 | undo flight | compensating
        undo flight says something else | unexpected  | compensating
        undo flight says done           | -           | compensated
        """,
        saga="ask_first",
    )


def test_a_final_saga_hears_nothing_any_more(tell: Tell) -> None:
    tell(
        """
        start                            | flight  | running
        flight says yes                  | weather | running
        weather says yes                 | hotel   | running
        hotel says yes                   | -       | completed
        hotel says no                    | stale   | completed
        hotel says fault                 | stale   | completed
        hotel says yes again             | stale   | completed
        start again                      | stale   | completed
        hotel says yes parks at the saga | stale   | completed
        """,
        saga="ask_first",
    )
