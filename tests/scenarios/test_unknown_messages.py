"""Messages that a worker does not know, that nobody waits for, or that nobody can read."""

from typing import Any

import pytest

from tests.scenarios.clinic import Sneezed
from tests.scenarios.clinic_sagas import CHECKUP, NEXT_VISIT, STUBBORN, VISIT

pytestmark = pytest.mark.timeout(300)

CURED = ("admitted", "charged", "given aspirin", "letter sent")


def test_what_a_worker_does_not_know_waits_for_one_that_does(clinic: Any) -> None:
    old = clinic.start_worker("clinic_old_worker")
    (kind,) = clinic.visit(VISIT, 1)
    (version,) = clinic.visit(NEXT_VISIT, 2)
    (name,) = clinic.visit(CHECKUP, 3)

    def left() -> bool:
        letter = clinic.delivery(kind, "ward.letter")
        outcome = clinic.delivery(version, "ward.admitted")
        return bool(letter and letter[2] and outcome and outcome[2]) and clinic.chart(3) != ()

    clinic.wait_until(left, "the old release to come upon what it does not know")
    others = clinic.visit(STUBBORN, *range(10, 20))
    clinic.wait_until(lambda: clinic.over() == 10, "everything else to go on")
    assert {clinic.status(id) for id in others} == {"completed"}
    unknown = "no handler for ward.letter in this worker"
    assert clinic.delivery(kind, "ward.letter") == ("pending", 0, unknown)
    unknown = "this worker does not know version 2 of visit"
    assert clinic.delivery(version, "ward.admitted") == ("pending", 0, unknown)
    # To a saga of another name it does not even listen.
    assert clinic.delivery(name, "ward.admitted") == ("pending", 0, None)
    assert old.running

    old.kill()
    clinic.start_worker()  # the new release; when it looks again is not waited for here
    clinic.turn_clock(kind, "ward.letter")
    clinic.turn_clock(version, "ward.admitted")
    clinic.wait_until_over()
    assert clinic.statuses() == {"completed": 13}
    assert clinic.chart(1) == CURED
    assert clinic.chart(2) == ("admitted", "charged", "given aspirin")
    assert clinic.chart(3) == ("admitted", "scanned")
    clinic.check_history()


def test_an_event_that_nobody_waits_for_is_recorded(clinic: Any) -> None:
    clinic.start_worker()
    with clinic.runtime.engine.begin() as connection:
        id = clinic.runtime.publish(connection, Sneezed(patient=1))
    (visit,) = clinic.visit(VISIT, 1)
    clinic.wait_until_over()
    assert clinic.status(visit) == "completed"
    assert clinic.query("SELECT id, payload FROM outbox WHERE kind = 'patient.sneezed'") == [
        (id, {"patient": 1})
    ]
    assert clinic.query("SELECT * FROM inbox WHERE message_id = %s", id) == []


def test_a_command_that_cannot_be_read_waits_alone_for_a_worker_that_can(clinic: Any) -> None:
    ids = clinic.visit(VISIT, *range(1, 11))
    torn = ids[4]
    change = "UPDATE outbox SET payload = %s::jsonb WHERE saga_id = %s AND kind = 'ward.admit'"
    ((payload,),) = clinic.query(
        "SELECT payload::text FROM outbox WHERE saga_id = %s AND kind = 'ward.admit'", torn
    )
    clinic.query(change, '{"patient": "?"}', torn)
    clinic.start_worker()
    clinic.wait_until(lambda: clinic.statuses() == {"completed": 9, "running": 1}, "the others")
    clinic.wait_until(lambda: clinic.delivery(torn, "ward.admit")[2], "the reason")
    state, attempts, error = clinic.delivery(torn, "ward.admit")
    assert (state, attempts) == ("pending", 0)
    assert error.startswith("cannot be read here: ward.admit: field patient: ")
    assert [clinic.chart(n) for n in range(1, 11) if n != 5] == [CURED] * 9
    assert clinic.chart(5) == ()

    clinic.query(change, payload, torn)
    clinic.wait_until_over()
    assert clinic.status(torn) == "completed"
    assert clinic.chart(5) == CURED
    clinic.check_history()


def test_an_outcome_that_cannot_be_read_waits_alone_for_a_worker_that_can(clinic: Any) -> None:
    # The ward of the old release does its part, and nobody listens to its outcomes yet.
    clinic.start_worker("clinic_old_worker")
    torn, *others = clinic.visit(CHECKUP, *range(1, 6))
    clinic.wait_until(lambda: clinic.count("chart") == 5, "all to be admitted")
    ((payload,),) = clinic.query(
        "SELECT payload::text FROM outbox WHERE saga_id = %s AND kind = 'ward.admitted'", torn
    )
    change = "UPDATE outbox SET payload = %s::jsonb WHERE saga_id = %s AND kind = 'ward.admitted'"
    clinic.query(change, "{}", torn)
    clinic.start_worker()
    clinic.wait_until(
        lambda: {clinic.status(id) for id in others} == {"completed"}, "the others to be over"
    )
    clinic.wait_until(lambda: clinic.delivery(torn, "ward.admitted")[2], "the reason")
    assert clinic.status(torn) == "running"
    state, attempts, error = clinic.delivery(torn, "ward.admitted")
    assert (state, attempts) == ("pending", 0)
    assert error.startswith("cannot be read here: ward.admitted: field patient: ")

    clinic.query(change, payload, torn)
    clinic.wait_until_over()
    assert clinic.status(torn) == "completed"
    assert clinic.chart(1) == ("admitted", "scanned")
    clinic.check_history()
