"""`decide` when a person is needed: after the pivot, and where something is parked."""

from collections.abc import Callable
from typing import Any

Tell = Callable[..., Any]


# Rule 6: the pivot


def test_the_pivot_itself_may_be_rejected_and_all_is_undone(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | hotel, car  | running
        hotel says yes        | -           | running
        car says yes          | payment     | running
        payment says no       | undo car    | compensating
        undo car says done    | undo hotel  | compensating
        undo hotel says done  | undo flight | compensating
        undo flight says done | -           | compensated
        """,
        reason="step payment: travel.declined: sold out",
    )


def test_after_the_pivot_a_rejection_leaves_it_stuck(tell: Tell) -> None:
    tell(
        """
        start            | flight         | running
        flight says yes  | hotel, car     | running
        hotel says yes   | -              | running
        car says yes     | payment        | running
        payment says yes | tickets, miles | running
        tickets says no  | -              | stuck
        miles says yes   | -              | stuck
        """,
        reason="step tickets: rejected after the pivot: travel.declined: sold out",
    )


def test_further_down_makes_no_difference_there(tell: Tell) -> None:
    tell(
        """
        start                      | flight         | running
        flight says yes            | hotel, car     | running
        hotel says yes             | -              | running
        car says yes               | payment        | running
        payment says yes           | tickets, miles | running
        miles says no further down | -              | stuck
        """,
        reason="step miles: rejected after the pivot: sold out",
    )


def test_the_outcome_after_all_heals_it(tell: Tell) -> None:
    tell(
        """
        start            | flight         | running
        flight says yes  | hotel, car     | running
        hotel says yes   | -              | running
        car says yes     | payment        | running
        payment says yes | tickets, miles | running
        tickets says no  | -              | stuck
        miles says yes   | -              | stuck
        tickets says yes | -              | completed
        """,
    )


def test_a_pivot_that_was_skipped_is_passed_all_the_same(tell: Tell) -> None:
    tell(
        """
        start           | flight         | running
        flight says yes | tickets, miles | running
        tickets says no | -              | stuck
        """,
        without=("hotel", "car", "payment"),
    )


# Rule 7: faults


def test_a_fault_undoes_nothing(tell: Tell) -> None:
    tell(
        """
        start            | flight     | running
        flight says yes  | hotel, car | running
        hotel says fault | -          | stuck
        car says yes     | -          | stuck
        """,
        reason="step hotel: travel.order is parked at travel: boom",
    )


def test_it_goes_on_when_the_outcome_comes_after_all(tell: Tell) -> None:
    tell(
        """
        start             | flight     | running
        flight says fault | -          | stuck
        flight says yes   | hotel, car | running
        car says fault    | -          | stuck
        hotel says yes    | -          | stuck
        car says yes      | payment    | running
        """,
    )


def test_a_fault_that_is_repeated_changes_nothing(tell: Tell) -> None:
    tell(
        """
        start                   | flight     | running
        flight says fault       | -          | stuck
        flight says fault again | -          | stuck
        flight says yes         | hotel, car | running
        flight says fault again | stale      | running
        """,
    )


def test_two_faults_wait_for_two_outcomes(tell: Tell) -> None:
    tell(
        """
        start            | flight, hotel, car | running
        hotel says fault | -                  | stuck
        car says fault   | -                  | stuck
        car says yes     | -                  | stuck
        hotel says yes   | -                  | running
        flight says yes  | payment            | running
        """,
        saga="all_at_once",
    )


def test_the_outcome_after_all_may_be_a_no(tell: Tell) -> None:
    tell(
        """
        start             | flight | running
        flight says fault | -      | stuck
        flight says no    | -      | compensated
        """,
    )


def test_a_no_gives_up_the_sibling_that_is_stuck_and_waits_for_what_it_left(tell: Tell) -> None:
    tell(
        """
        start                 | flight      | running
        flight says yes       | hotel, car  | running
        hotel says fault      | -           | stuck
        car says no           | -           | compensating
        hotel says yes        | undo hotel  | compensating
        undo hotel says done  | undo flight | compensating
        undo flight says done | -           | compensated
        """,
    )


def test_a_sibling_that_fails_while_the_saga_compensates_is_given_up_too(tell: Tell) -> None:
    tell(
        """
        start            | flight     | running
        flight says yes  | hotel, car | running
        car says no      | -          | compensating
        hotel says fault | -          | compensating
        hotel says yes   | undo hotel | compensating
        """,
    )


def test_a_compensation_that_is_rejected_leaves_it_stuck_never_compensated(tell: Tell) -> None:
    tell(
        """
        start               | flight      | running
        flight says yes     | weather     | running
        weather says no     | undo flight | compensating
        undo flight says no | -           | stuck
        """,
        saga="ask_first",
        reason="step flight: its compensation was rejected: sold out",
    )


def test_so_does_one_that_faults_and_the_others_wait(tell: Tell) -> None:
    tell(
        """
        start                  | flight      | running
        flight says yes        | hotel, car  | running
        hotel says yes         | -           | running
        car says yes           | payment     | running
        payment says no        | undo car    | compensating
        undo car says fault    | -           | stuck
        car says yes again     | stale       | stuck
        undo car says done     | undo hotel  | compensating
        undo hotel says no     | -           | stuck
        undo hotel says done   | undo flight | compensating
        undo flight says fault | -           | stuck
        undo flight says done  | -           | compensated
        """,
    )


def test_what_is_parked_at_the_saga_itself_heals_it_when_it_is_consumed(
    tell: Tell,
) -> None:
    tell(
        """
        start                             | flight     | running
        flight says yes parks at the saga | -          | stuck
        flight says yes                   | hotel, car | running
        """,
    )


def test_each_parked_message_is_waited_for(tell: Tell) -> None:
    tell(
        """
        start                            | flight     | running
        flight says yes                  | hotel, car | running
        hotel says yes parks at the saga | -          | stuck
        car says yes parks at the saga   | -          | stuck
        car says yes                     | -          | stuck
        hotel says yes                   | payment    | running
        """,
    )


def test_while_a_message_is_parked_nothing_else_goes_on(tell: Tell) -> None:
    tell(
        """
        start                            | flight     | running
        flight says yes                  | hotel, car | running
        hotel says yes parks at the saga | -          | stuck
        car says no                      | -          | stuck
        """,
        reason="travel.ordered is parked at saga.book_trip: bug",
    )


def test_a_parked_message_may_concern_a_compensation(tell: Tell) -> None:
    tell(
        """
        start                                   | flight      | running
        flight says yes                         | weather     | running
        weather says no                         | undo flight | compensating
        undo flight says done parks at the saga | -           | stuck
        undo flight says done                   | -           | compensated
        """,
        saga="ask_first",
    )


def test_a_parked_message_that_turns_out_to_be_late_heals_it_as_well(tell: Tell) -> None:
    tell(
        """
        start                             | flight     | running
        flight says yes parks at the saga | -          | stuck
        another flight says yes           | -          | stuck
        flight says yes                   | hotel, car | running
        """,
    )
