"""A step's deadline passes: what was not begun is taken back, and what was begun is in doubt."""

from typing import Any
from uuid import UUID

import pytest

from tests.scenarios.clinic_sagas import HASTY, SHORT, URGENT

pytestmark = pytest.mark.timeout(300)


def give_up(clinic: Any, id: UUID, step: str) -> None:
    """The step's deadline passes, and the saga undoes what may have been done."""
    clinic.turn_clock(id, "saga.timed_out")
    clinic.wait_until(lambda: clinic.status(id) == "compensated", "the saga to be compensated")
    assert clinic.reason(id) == f"step {step}: no outcome within 1:00:00"


def test_what_nobody_began_in_time_is_taken_back_and_leaves_nothing(clinic: Any) -> None:
    clinic.start_worker(CLINIC_SERVES="ward till")
    (id,) = clinic.visit(SHORT, 1)
    clinic.wait_until(lambda: clinic.status(id) == "compensated", "the deadline to pass")
    assert clinic.reason(id) == "step scan: no outcome within 0:00:00.300000"
    assert clinic.step(id, "scan")["phase"] == "revoked"
    assert clinic.delivery(id, "lab.scan")[0] == "revoked"

    # The lab opens, and finds only what is still wanted.
    clinic.start_worker()
    (other,) = clinic.visit(URGENT, 2)
    clinic.wait_until_over()
    assert clinic.status(other) == "completed"
    assert clinic.runs(1, "scan") == []
    # Nothing was done by the scan, so nothing of it is undone.
    assert clinic.chart(1) == ("admitted", "discharged")
    clinic.check_history()


def test_a_success_that_comes_late_is_undone_when_it_comes(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "scan", "hold")
    (id,) = clinic.visit(URGENT, 1)
    clinic.wait_for_run(1, "scan")
    give_up(clinic, id, "scan")
    # The machine has not answered yet: its erasure came first, and met nothing.
    assert clinic.chart(1) == ("admitted", "erased", "discharged")
    assert clinic.step(id, "scan")["doubt"]

    clinic.let_go(1, "scan")
    clinic.wait_until(lambda: len(clinic.runs(1, "erase")) == 2, "the late scan to be erased")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "erased", "discharged", "scanned", "erased")
    assert "doubt" not in clinic.step(id, "scan")
    clinic.check_history()


def test_a_no_that_comes_late_is_only_recorded(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "scan", "hold")
    clinic.tell(1, "scan", "reject")
    (id,) = clinic.visit(URGENT, 1)
    clinic.wait_for_run(1, "scan")
    give_up(clinic, id, "scan")

    clinic.let_go(1, "scan")
    clinic.wait_until(lambda: clinic.delivery(id, "saga.rejected"), "the late no")
    clinic.wait_until_over()
    assert clinic.delivery(id, "lab.scan")[2] == "rejected: no scan today"
    assert clinic.delivery(id, "saga.rejected")[0] == "done"
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "erased", "discharged")
    assert "doubt" not in clinic.step(id, "scan")
    clinic.check_history()


def test_an_undoing_that_overtakes_an_action_in_a_transaction_is_repeated(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "hold")
    (id,) = clinic.visit(HASTY, 1)
    clinic.wait_for_run(1, "charge")
    give_up(clinic, id, "charge")
    # The till has not committed its charge: the refund met nothing.
    assert clinic.chart(1) == ("refunded",)

    clinic.let_go(1, "charge")
    clinic.wait_until(lambda: len(clinic.runs(1, "refund")) == 2, "the late charge to be refunded")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert sorted(clinic.chart(1)) == ["charged", "refunded", "refunded"]
    clinic.check_history()


def test_an_undoing_that_overtakes_an_action_further_down_is_repeated(clinic: Any) -> None:
    clinic.subscribe()  # the crew too, which is not there yet
    early = clinic.start_worker(CLINIC_SERVES="ward till theatre")
    (id,) = clinic.visit(HASTY, 1)
    clinic.wait_until(lambda: clinic.chart(1) == ("charged", "booked"), "the theatre to be booked")
    give_up(clinic, id, "book")
    assert clinic.chart(1) == ("charged", "booked", "released", "refunded")

    # The crew comes back, and hears of the booking only now.
    early.kill()
    clinic.start_worker()
    clinic.wait_until(lambda: len(clinic.runs(1, "send home")) == 2, "the crew to be sent home")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1)[:4] == ("charged", "booked", "released", "refunded")
    late = clinic.chart(1)[4:]
    assert sorted(late) == ["released", "rostered", "sent home", "sent home"]
    assert late[0] == "rostered"
    assert late[-1] == "sent home"
    clinic.check_history()
