"""The checker is checked: each thing that may go wrong is planted, and has to be seen."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from examples.travel.checks import Check
from tests.chaos.blame import note_blame, read_blame
from tests.chaos.charging import GatewayError
from tests.chaos.checker import Findings, inspect
from tests.chaos.report import Report, checks_of_run
from tests.chaos.subjects import Evidence

#: One trip that was completed, and one that had a flight and gave it back.
COMPLETED = "(SELECT id FROM saga WHERE status = 'completed' ORDER BY id LIMIT 1)"
UNDONE = """(SELECT s.id FROM saga AS s JOIN chaos_effect AS e ON e.saga_id = s.id
             WHERE s.status = 'compensated' AND e.step = 'hotel' ORDER BY s.id LIMIT 1)"""
MESSAGE = f"(SELECT id FROM outbox WHERE saga_id = {COMPLETED} AND kind = 'payments.charged')"

PLANTED = {
    "a lost start": ("nothing_lost", f"DELETE FROM saga WHERE id = {COMPLETED}"),
    "a saga of its own under an acknowledged key": (
        "nothing_lost",
        f"UPDATE saga SET id = '{uuid4()}' WHERE id = {COMPLETED}",
    ),
    "a saga that never ends": (
        "every_saga_ended",
        f"UPDATE saga SET status = 'running' WHERE id = {COMPLETED}",
    ),
    "a stuck saga": ("none_stuck", f"UPDATE saga SET status = 'stuck' WHERE id = {COMPLETED}"),
    "a refused trip that was completed": (
        "outcomes_as_decided",
        f"UPDATE saga SET status = 'completed' WHERE id = {UNDONE}",
    ),
    "an effect that happened twice": (
        "effects_exact",
        f"""INSERT INTO chaos_effect (trip_id, step, op, saga_id, root_id, message_id, cents)
            SELECT trip_id, step, op, saga_id, root_id, message_id, cents FROM chaos_effect
            WHERE saga_id = {COMPLETED} AND step = 'documents'""",
    ),
    "an undo that happened twice": (
        "effects_exact",
        f"""INSERT INTO chaos_effect (trip_id, step, op, saga_id, root_id, message_id, cents)
            SELECT trip_id, step, op, saga_id, root_id, message_id, cents FROM chaos_effect
            WHERE saga_id = {UNDONE} AND step = 'hotel' AND op = 'undo'""",
    ),
    "an effect that never happened": (
        "effects_exact",
        f"DELETE FROM chaos_effect WHERE saga_id = {COMPLETED} AND step = 'miles'",
    ),
    "an effect that stands after all": (
        "effects_exact",
        f"DELETE FROM chaos_effect WHERE saga_id = {UNDONE} AND op = 'undo' AND step = 'hotel'",
    ),
    "an undo before what it undoes": (
        "effects_exact",
        f"""UPDATE chaos_effect SET op = CASE op WHEN 'do' THEN 'undo' ELSE 'do' END
            WHERE saga_id = {UNDONE} AND step = 'hotel'""",
    ),
    "an effect under another command": (
        "effects_ordered_by_their_sagas",
        f"""UPDATE chaos_effect SET root_id = '{uuid4()}'
            WHERE saga_id = {COMPLETED} AND step = 'flight'""",
    ),
    "an effect for nobody": (
        "effects_ordered_by_their_sagas",
        f"""UPDATE chaos_effect SET trip_id = '{uuid4()}'
            WHERE saga_id = {COMPLETED} AND step = 'seating'""",
    ),
    "money from nothing": (
        "money_conserved",
        "UPDATE chaos_money SET cents = cents + 1 WHERE seq = (SELECT max(seq) FROM chaos_money)",
    ),
    "a lost update of a balance": (
        "money_conserved",
        "UPDATE chaos_account SET cents = cents - 1 WHERE name = 'airline'",
    ),
    "money that was never paid back": (
        "money_conserved",
        f"""WITH lost AS (
                DELETE FROM chaos_money WHERE trip_id IN (
                    SELECT trip_id FROM chaos_effect WHERE saga_id = {UNDONE})
                AND (cents > 0) = (account LIKE 'traveller %') RETURNING account, cents
            ) UPDATE chaos_account AS a SET cents = a.cents - lost.cents
              FROM (SELECT account, sum(cents) AS cents FROM lost GROUP BY account) AS lost
              WHERE a.name = lost.account""",
    ),
    "a state that no history leads to": (
        "history_folds_to_state",
        f"""UPDATE saga SET data = (data::jsonb || '{{"seat": "9Z"}}')::json
            WHERE id = {COMPLETED}""",
    ),
    "a message that was consumed and is gone": (
        "history_folds_to_state",
        f"""DELETE FROM inbox WHERE consumer = 'saga.chaos_trip' AND saga_id = {COMPLETED}
            AND position = 3""",
    ),
    "two messages in one place of a history": (
        "history_has_no_gaps",
        f"""UPDATE inbox SET position = 3 WHERE position = 2 AND saga_id = {COMPLETED}""",
    ),
    "an event that one of two listeners never got": (
        "everyone_addressed_got_it",
        f"DELETE FROM inbox WHERE message_id = {MESSAGE} AND consumer = 'loyalty'",
    ),
    "a delivery that is left": (
        "inbox_drained",
        f"UPDATE inbox SET state = 'pending', outcome = NULL WHERE message_id = {MESSAGE}",
    ),
    "a delivery that is parked": (
        "inbox_drained",
        f"UPDATE inbox SET state = 'parked', outcome = 'failed' WHERE message_id = {MESSAGE}",
    ),
    "a message that nobody ever got": (
        "outbox_drained",
        f"DELETE FROM inbox WHERE message_id = {MESSAGE}",
    ),
    "a message from nowhere": ("no_orphans", f"DELETE FROM outbox WHERE id = {MESSAGE}"),
    "an act without an audit": (
        "audit_complete",
        f"UPDATE outbox SET category = 'act' WHERE id = {MESSAGE}",
    ),
    "a saga that went on though it was cancelled": (
        "outcomes_as_decided",
        f"""INSERT INTO audit (id, at, actor, act, saga_id, reason, detail)
            VALUES ('{uuid4()}', '2000-01-01', 'me', 'cancelled', {COMPLETED}, 'why', '{{}}')""",
    ),
    "nothing but success": ("enough_compensated", "UPDATE saga SET status = 'completed'"),
}


def _more_calls(evidence: Evidence, **changes: Any) -> Evidence:
    charged = next(call for call in evidence.calls if call.accepted)
    return replace(evidence, calls=(*evidence.calls, replace(charged, **changes)))


MISREPORTED: dict[str, tuple[str, Callable[[Evidence], Evidence]]] = {
    "a start that gave two sagas": (
        "starts_answered_alike",
        lambda evidence: replace(evidence, contradicted=frozenset({"CHAOS-000001"})),
    ),
    "an act that was acknowledged and is gone": (
        "audit_complete",
        lambda evidence: replace(evidence, cancelled=frozenset({uuid4()})),
    ),
    "a second charge under another key": (
        "gateway_calls_exact",
        lambda evidence: _more_calls(evidence, key="payments:another"),
    ),
    "one key for two charges": (
        "gateway_calls_exact",
        lambda evidence: _more_calls(evidence, cents=1),
    ),
    "a charge for nobody": (
        "gateway_calls_exact",
        lambda evidence: _more_calls(evidence, key="x", trip=str(uuid4())),
    ),
    "a charge that never happened": (
        "gateway_calls_exact",
        lambda evidence: replace(
            evidence, calls=[call for call in evidence.calls if not call.accepted]
        ),
    ),
    "a charge for a trip that was undone": (
        "gateway_calls_exact",
        lambda evidence: replace(
            evidence, calls=tuple(replace(call, accepted=True) for call in evidence.calls)
        ),
    ),
}


def test_a_good_run_passes(scratch: Connection, finished: Any) -> None:
    findings = inspect(scratch, finished.schema, finished.evidence)
    assert [check for check in findings.checks if not check.ok] == []
    assert (findings.lost, findings.double_effects) == (0, 0)
    assert {trip.refused_by for trip in finished.evidence.trips} == {
        None,
        "flight",
        "seating",
        "hotel",
        "room",
        "car",
        "payment",
    }


def test_repeated_calls_with_one_key_are_fine(scratch: Connection, finished: Any) -> None:
    evidence = _more_calls(finished.evidence, repeat=True)
    assert _failed(inspect(scratch, finished.schema, evidence)) == set()


@pytest.mark.parametrize("what", PLANTED)
def test_it_sees(what: str, scratch: Connection, finished: Any) -> None:
    check, plant = PLANTED[what]
    assert scratch.execute(text(plant)).rowcount, "nothing was planted"
    assert check in _failed(inspect(scratch, finished.schema, finished.evidence))


@pytest.mark.parametrize("what", MISREPORTED)
def test_it_sees_from_outside(what: str, scratch: Connection, finished: Any) -> None:
    check, tamper = MISREPORTED[what]
    assert _failed(inspect(scratch, finished.schema, tamper(finished.evidence))) == {check}


def test_it_counts_what_is_lost_and_what_is_doubled(scratch: Connection, finished: Any) -> None:
    for what in ("a lost start", "an effect that happened twice", "an undo that happened twice"):
        scratch.execute(text(PLANTED[what][1]))
    findings = inspect(scratch, finished.schema, finished.evidence)
    assert (findings.lost, findings.double_effects) == (1, 2)


@pytest.mark.parametrize(
    ("struck", "drained", "stubborn", "blamed", "failed"),
    [
        (1, 59.9, 0, [], set()),
        (0, 59.9, 0, [], {"every_fault_struck"}),
        (1, 60.1, 0, [], {"drained_in_time"}),
        (1, None, 0, [], {"drained_in_time"}),
        (1, 1.0, 1, [], {"workers_stop_when_told"}),
        (1, 1.0, 0, ["DiskFull"], {"no_handler_blamed"}),
    ],
)
def test_the_run_itself_is_judged(
    struck: int, drained: float | None, stubborn: int, blamed: list[str], failed: set[str]
) -> None:
    faults = {"worker_killed": 7, "disk_full": struck}
    checks = checks_of_run(faults, drained, stubborn, blamed, None)
    findings = Findings({"completed": 9, "compensated": 1}, 0, 0)
    report = Report("all", 10, 1, 5.0, drained, {"worker_killed": 7}, findings, checks)
    assert {check.name for check in checks if not check.ok} == failed
    assert report.ok is not bool(failed)


def test_a_disk_that_could_not_be_filled_is_told() -> None:
    checks = checks_of_run({"disk_full": 0}, 1.0, 0, [], "a tmpfs cannot be mounted here")
    assert checks[0] == Check(
        "every_fault_struck", False, "never struck: disk_full; a tmpfs cannot be mounted here"
    )


def test_only_what_is_not_the_gateways_is_blame(tmp_path: Path) -> None:
    said = logging.getLogger("internals.hop.batch")
    heard = note_blame(tmp_path)
    try:
        for error in (GatewayError("busy"), ValueError("bug")):
            said.warning("cars: %s failed", "cars.rent", exc_info=error)
    finally:
        said.removeHandler(heard)
    assert list(read_blame(tmp_path)) == ["ValueError: cars: cars.rent failed"]


def _failed(findings: Findings) -> set[str]:
    return {check.name for check in findings.checks if not check.ok}
