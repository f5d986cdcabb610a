"""A handler fails: how often and when it is tried again stands in Postgres, not in a worker."""

from typing import Any
from uuid import UUID

import pytest

from internals.database.commit_points import Boundary, transaction
from tests.scenarios.clinic import Booked
from tests.scenarios.clinic_sagas import ENDLESS, PATIENT, VISIT

pytestmark = pytest.mark.timeout(300)

ON_FIRE = "RuntimeError: the charge desk is on fire"


def wait_for_failure(clinic: Any, id: UUID, number: int) -> None:
    clinic.wait_until(
        lambda: clinic.delivery(id, "till.charge") == ("pending", number, ON_FIRE),
        f"failure {number}",
    )


def test_the_next_worker_goes_on_counting_where_a_dead_one_stopped(clinic: Any) -> None:
    clinic.tell(1, "charge", "fail", times=2)
    (id,) = clinic.visit(PATIENT, 1)
    for number in (1, 2):
        worker = clinic.start_worker()
        wait_for_failure(clinic, id, number)
        worker.kill()
        assert len(clinic.runs(1, "charge")) == number
        # When it is tried again stands beside it: after the run that failed.
        assert clinic.query(
            "SELECT due_at > (SELECT max(at) FROM log) FROM inbox JOIN outbox ON id = message_id "
            "WHERE kind = 'till.charge'"
        ) == [(True,)]
        clinic.turn_clock(id, "till.charge")
    clinic.start_worker()
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.delivery(id, "till.charge") == ("done", 2, None)
    assert len(clinic.runs(1, "charge")) == 3
    assert len(set(clinic.runs(1, "charge"))) == 1
    assert clinic.chart(1) == ("admitted", "charged")
    clinic.check_history()


def test_after_the_last_attempt_it_is_parked_and_the_saga_hears_of_it(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "fail", times=99)
    clinic.tell(2, "charge", "fail", times=99)
    (steps_own,) = clinic.visit(PATIENT, 1)
    (handlers_own,) = clinic.visit(VISIT, 2)
    for number in (1, 2, 3):
        wait_for_failure(clinic, steps_own, number)
        clinic.turn_clock(steps_own, "till.charge")
    clinic.wait_until_over()
    # The step's policy goes before the handler's.
    assert clinic.delivery(steps_own, "till.charge") == ("parked", 4, ON_FIRE)
    assert clinic.delivery(handlers_own, "till.charge") == ("parked", 3, ON_FIRE)
    for id, patient in ((steps_own, 1), (handlers_own, 2)):
        assert clinic.status(id) == "stuck"
        assert clinic.reason(id) == f"step charge: till.charge is parked at till: {ON_FIRE}"
        assert clinic.chart(patient) == ("admitted",)
    clinic.check_history()


def test_some_errors_are_hopeless_and_some_are_not_counted_out(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "hopeless", times=99)
    clinic.tell(2, "charge", "busy", times=5)
    hopeless, busy = clinic.visit(VISIT, 1, 2)
    clinic.wait_until_over()
    error = "Hopeless: the charge desk is on fire"
    assert clinic.delivery(hopeless, "till.charge") == ("parked", 1, error)
    assert clinic.status(hopeless) == "stuck"
    assert clinic.reason(hopeless) == f"step charge: till.charge is parked at till: {error}"
    # It was tried more often than the policy's attempts, and has its last one still.
    assert clinic.delivery(busy, "till.charge") == ("done", 2, None)
    assert clinic.status(busy) == "completed"
    assert len(clinic.runs(2, "charge")) == 6
    assert clinic.chart(2)[:2] == ("admitted", "charged")
    clinic.check_history()


def test_what_belongs_to_no_saga_is_parked_too_and_delivered_again_by_hand(clinic: Any) -> None:
    clinic.subscribe()
    clinic.tell(1, "roster", "fail", times=3)
    with clinic.runtime.engine.begin() as connection:
        ids = [clinic.runtime.publish(connection, Booked(patient=n)) for n in (1, 2)]
    clinic.start_worker()
    clinic.wait_until_over()
    parked = "SELECT message_id, attempts, last_error FROM inbox WHERE state = 'parked'"
    assert clinic.query(parked) == [(ids[0], 3, "RuntimeError: the roster desk is on fire")]
    assert (clinic.chart(1), clinic.chart(2)) == ((), ("rostered",))

    with transaction(clinic.runtime._wiring.database, Boundary.ACT) as unit:
        clinic.runtime._administration.acts.parked.retry(
            unit, ids[:1], actor="ann", reason="the fire is out"
        )
    clinic.wait_until_over()
    assert clinic.query(parked) == []
    assert (clinic.chart(1), clinic.chart(2)) == (("rostered",), ("rostered",))


def test_one_that_fails_for_ever_delays_nobody(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "fail", times=10**6)
    clinic.tell(2, "charge", "fail", times=3)
    (endless,) = clinic.visit(ENDLESS, 1)
    (parked,) = clinic.visit(VISIT, 2)
    clinic.wait_until(lambda: clinic.delivery(endless, "till.charge")[1] >= 2, "it to fail again")
    others = clinic.visit(VISIT, *range(10, 40))
    clinic.wait_until(lambda: clinic.over() == 30, "the others to be done")
    failed = clinic.delivery(endless, "till.charge")[1]
    clinic.wait_until(lambda: clinic.delivery(endless, "till.charge")[1] > failed, "once more")
    assert {clinic.status(id) for id in others} == {"completed"}
    assert clinic.status(endless) == "running"
    clinic.wait_until(lambda: clinic.status(parked) == "stuck", "the other trouble to be parked")

    clinic.query("DELETE FROM script")
    clinic.wait_until_over()
    assert clinic.status(endless) == "completed"
    assert clinic.chart(1) == ("charged",)
    clinic.check_history()
