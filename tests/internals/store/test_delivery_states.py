"""The table itself refuses a delivery whose columns contradict each other."""

from typing import Any

import psycopg
import pytest

from internals.store.delivery import DeliveryOutcome, DeliveryState, WaitReason
from saga import Command

#: What a delivery of each state may have ended with.
ENDED: dict[DeliveryState, set[str | None]] = {
    DeliveryState.PENDING: {
        None,
        "failed",
        "deferred",
        "unhandled",
        "unsettled",
        "not_forwarded",
        "retried",
    },
    DeliveryState.DONE: {"handled", "overran", "rejected", "no_undo", "stale"},
    DeliveryState.REVOKED: {
        "undone",
        "given_up",
        "not_needed",
        "dropped",
        "superseded",
        "unsubscribed",
    },
    DeliveryState.PARKED: {"failed", "unsettled", "unexpected", "id_conflict"},
}


class Fill(Command):
    kind = "desk.fill"


@pytest.mark.parametrize("state", DeliveryState)
def test_each_state_has_outcomes_of_its_own(
    store: Any, command: Any, outside: Any, state: DeliveryState
) -> None:
    store.send(command(Fill()))
    taken = set()
    for outcome in (None, "nonsense", *DeliveryOutcome):
        try:
            outside.execute("UPDATE inbox SET state = %s, outcome = %s", (state, outcome))
        except psycopg.errors.CheckViolation:
            continue
        taken.add(outcome)
    assert taken == ENDED[state]


def test_each_outcome_is_one_of_some_state() -> None:
    assert set().union(*ENDED.values()) == {None, *DeliveryOutcome}


@pytest.mark.parametrize("reason", [None, *WaitReason])
@pytest.mark.parametrize("timed", [False, True])
def test_it_has_a_time_unless_it_waits_for_something_else(
    store: Any, command: Any, outside: Any, reason: WaitReason | None, timed: bool
) -> None:
    store.send(command(Fill()))
    due = "now()" if timed else "NULL"
    change = f"UPDATE inbox SET wait_reason = %s, due_at = {due}"
    # Who forwards it has it for a time.
    if timed is (reason in (None, WaitReason.FORWARDING)):
        outside.execute(change, [reason])
    else:
        with pytest.raises(psycopg.errors.CheckViolation, match="inbox_due_at_check"):
            outside.execute(change, [reason])


def test_it_waits_for_no_other_reason(store: Any, command: Any, outside: Any) -> None:
    store.send(command(Fill()))
    with pytest.raises(psycopg.errors.CheckViolation, match="inbox_wait_reason_check"):
        outside.execute("UPDATE inbox SET wait_reason = 'nonsense', due_at = NULL")
