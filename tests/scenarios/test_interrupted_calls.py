"""A worker is killed in the middle of a call to something outside the database."""

from typing import Any

import pytest

from tests.scenarios.clinic_sagas import CHECKUP, URGENT

pytestmark = pytest.mark.timeout(300)


def kill_while_scanning(clinic: Any, saga: Any, patient: int) -> Any:
    """Start a saga, and a worker that is killed while the machine is at work."""
    worker = clinic.start_worker()
    clinic.tell(patient, "scan", "hold")
    (id,) = clinic.visit(saga, patient)
    clinic.wait_for_run(patient, "scan")
    worker.kill()
    clinic.let_go(patient, "scan")
    return id


def test_the_second_call_has_the_key_of_the_first(clinic: Any) -> None:
    id = kill_while_scanning(clinic, CHECKUP, 1)
    assert clinic.chart(1) == ("admitted",)
    # That it was started is known, though its worker did not live to tell.
    assert clinic.delivery(id, "lab.scan") == ("pending", 1, None)

    clinic.start_worker()
    (other,) = clinic.visit(CHECKUP, 2)
    clinic.wait_until(lambda: clinic.status(other) == "completed", "another patient's scan")
    assert len(clinic.runs(1, "scan")) == 1  # the lease is still the dead one's

    clinic.turn_clock(id, "lab.scan")
    clinic.wait_until_over()
    first, second = clinic.runs(1, "scan")
    assert first == second
    assert clinic.runs(2, "scan") != [first]
    assert clinic.status(id) == "completed"
    assert clinic.chart(1) == ("admitted", "scanned")
    clinic.check_history()


def test_an_interrupted_call_that_is_overdue_is_in_doubt(clinic: Any) -> None:
    id = kill_while_scanning(clinic, URGENT, 1)
    worker = clinic.start_worker()
    clinic.turn_clock(id, "saga.timed_out")
    clinic.wait_until(lambda: clinic.status(id) == "compensated", "the deadline to pass")
    # It was not taken back, since the machine may have heard: what it did is erased.
    assert clinic.delivery(id, "lab.scan")[0] == "pending"
    assert clinic.step(id, "scan")["doubt"]
    assert clinic.chart(1) == ("admitted", "erased", "discharged")

    # The call is not made again when the lease ends, since its step was given up; that it may have
    # been made after the erasing is known by then, so the scan is erased once more.
    clinic.turn_clock(id, "lab.scan")
    clinic.wait_until(lambda: len(clinic.runs(1, "erase")) == 2, "the late scan to be erased")
    clinic.wait_until_over()
    assert clinic.delivery(id, "lab.scan")[0] == "revoked"
    assert clinic.chart(1) == ("admitted", "erased", "discharged", "erased")
    assert clinic.status(id) == "compensated"
    assert worker.running
    clinic.check_history()
