"""`decide` when the business says no: who joins, what is undone, in which order."""

from collections.abc import Callable
from typing import Any

Tell = Callable[..., Any]


# Rule 3: the join


def test_three_in_parallel_are_joined_when_the_last_is_known(tell: Tell) -> None:
    tell(
        """
        start           | flight, hotel, car | running
        car says yes    | -                  | running
        flight says yes | -                  | running
        hotel says yes  | payment            | running
        """,
        saga="all_at_once",
    )


def test_a_rejection_waits_for_the_siblings_then_undoes_what_they_did(tell: Tell) -> None:
    tell(
        """
        start                 | flight, hotel, car | running
        hotel says no         | -                  | compensating
        car says yes          | -                  | compensating
        flight says yes       | undo flight        | compensating
        undo flight says done | undo car           | compensating
        undo car says done    | -                  | compensated
        """,
        saga="all_at_once",
        reason="step hotel: sold out",
    )


def test_both_branches_rejected_nothing_to_undo_but_what_came_before(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | hotel, car  | running
        hotel says no         | -           | compensating
        car says no           | undo flight | compensating
        undo flight says done | -           | compensated
        """,
    )


def test_all_branches_rejected(tell: Tell) -> None:
    tell(
        """
        start          | flight, hotel, car | running
        car says no    | -                  | compensating
        flight says no | -                  | compensating
        hotel says no  | -                  | compensated
        """,
        saga="all_at_once",
    )


def test_a_branch_that_was_done_before_its_sibling_is_rejected_is_undone(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | hotel, car  | running
        car says yes          | -           | running
        hotel says no         | undo car    | compensating
        undo car says done    | undo flight | compensating
        undo flight says done | -           | compensated
        """,
    )


# Rule 4: who said no


def test_the_first_steps_own_handler_says_no_there_is_nothing_to_undo(tell: Tell) -> None:
    tell(
        """
        start          | flight | running
        flight says no | -      | compensated
        """,
        reason="step flight: travel.declined: sold out",
    )


def test_the_first_steps_own_handler_says_a_bare_no_there_is_nothing_to_undo(tell: Tell) -> None:
    tell(
        """
        start                 | flight | running
        flight says a bare no | -      | compensated
        """,
        reason="step flight: sold out",
    )


def test_no_further_down_the_step_itself_is_undone_too(tell: Tell) -> None:
    tell(
        """
        start                       | flight      | running
        flight says no further down | undo flight | compensating
        undo flight says done       | -           | compensated
        """,
        reason="step flight: travel.declined",
    )


def test_a_bare_no_further_down_the_step_itself_is_undone_too(tell: Tell) -> None:
    tell(
        """
        start                              | flight      | running
        flight says a bare no further down | undo flight | compensating
        undo flight says done              | -           | compensated
        """,
        reason="step flight: sold out",
    )


def test_the_cars_own_handler_says_no_only_what_came_before_is_undone(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | hotel, car  | running
        hotel says yes        | -           | running
        car says no           | undo hotel  | compensating
        undo hotel says done  | undo flight | compensating
        undo flight says done | -           | compensated
        """,
    )


def test_further_down_from_the_car_the_no_came_the_car_is_undone_as_well_and_first(
    tell: Tell,
) -> None:
    tell(
        """
        start                    | flight      | running
        flight says yes          | hotel, car  | running
        hotel says yes           | -           | running
        car says no further down | undo car    | compensating
        undo car says done       | undo hotel  | compensating
        undo hotel says done     | undo flight | compensating
        undo flight says done    | -           | compensated
        """,
    )


def test_further_down_but_there_is_nothing_to_undo(tell: Tell) -> None:
    tell(
        """
        start                        | flight      | running
        flight says yes              | weather     | running
        weather says no further down | undo flight | compensating
        undo flight says done        | -           | compensated
        """,
        saga="ask_first",
    )


# Rule 5: the way back


def test_in_reverse_order_of_completion_which_is_not_that_of_the_definition(tell: Tell) -> None:
    tell(
        """
        start                 | flight, hotel, car | running
        car says yes          | -                  | running
        flight says yes       | -                  | running
        hotel says yes        | payment            | running
        payment says no       | undo hotel         | compensating
        undo hotel says done  | undo flight        | compensating
        undo flight says done | undo car           | compensating
        undo car says done    | -                  | compensated
        """,
        saga="all_at_once",
    )


def test_a_late_rejection_takes_its_place_in_that_order(tell: Tell) -> None:
    tell(
        """
        start                       | flight, hotel, car | running
        car says yes                | -                  | running
        flight says no further down | -                  | compensating
        hotel says yes              | undo hotel         | compensating
        undo hotel says done        | undo flight        | compensating
        undo flight says done       | undo car           | compensating
        undo car says done          | -                  | compensated
        """,
        saga="all_at_once",
    )


def test_a_step_without_compensation_is_passed_over(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | weather     | running
        weather says yes      | hotel       | running
        hotel says no         | undo flight | compensating
        undo flight says done | -           | compensated
        """,
        saga="ask_first",
    )


def test_a_compensation_that_has_nothing_to_do_is_passed_over(tell: Tell) -> None:
    tell(
        """
        start                | flight, hotel, car | running
        car says yes         | -                  | running
        flight says yes      | -                  | running
        hotel says yes       | payment            | running
        payment says no      | undo hotel         | compensating
        undo hotel says done | undo car           | compensating
        undo car says done   | -                  | compensated
        """,
        saga="all_at_once",
        nothing_to_undo=("flight",),
    )


def test_none_of_the_compensations_has_anything_to_do(tell: Tell) -> None:
    tell(
        """
        start           | flight     | running
        flight says yes | hotel, car | running
        hotel says yes  | -          | running
        car says yes    | payment    | running
        payment says no | -          | compensated
        """,
        nothing_to_undo=("flight", "hotel", "car"),
    )


def test_a_skipped_step_is_not_undone(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | car         | running
        car says yes          | payment     | running
        payment says no       | undo car    | compensating
        undo car says done    | undo flight | compensating
        undo flight says done | -           | compensated
        """,
        without=("hotel",),
    )
