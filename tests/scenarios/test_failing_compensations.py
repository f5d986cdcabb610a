"""A compensation fails: it is tried again, and then waits for a person."""

from typing import Any
from uuid import UUID

import pytest

from saga import Replayed
from tests.scenarios.clinic_sagas import STUBBORN, VISIT

pytestmark = pytest.mark.timeout(300)

WHY = "till.refund is parked at till: RuntimeError: the refund desk is on fire"


def fail_to_refund(clinic: Any, saga: Any, patient: int) -> UUID:
    """The drug is refused, and the charge cannot be refunded."""
    clinic.tell(patient, "give", "reject")
    clinic.tell(patient, "refund", "fail", times=3)
    id: UUID = clinic.visit(saga, patient)[0]
    clinic.wait_until(lambda: clinic.status(id) == "stuck", "the refund to fail for good")
    assert clinic.reason(id) == f"step charge: {WHY}"
    assert clinic.delivery(id, "till.refund")[:2] == ("parked", 3)
    assert len(clinic.runs(patient, "refund")) == 3
    return id


def test_a_compensation_that_fails_for_a_while_is_done_in_the_end(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "give", "reject")
    clinic.tell(1, "refund", "fail", times=2)
    (id,) = clinic.visit(VISIT, 1)
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.reason(id) == "step give: no give today"
    assert len(clinic.runs(1, "refund")) == 3
    assert clinic.chart(1) == ("admitted", "charged", "refunded", "discharged")
    clinic.check_history()


def test_what_is_to_be_undone_before_it_waits_for_it(clinic: Any) -> None:
    clinic.start_worker()
    id = fail_to_refund(clinic, VISIT, 1)
    clinic.wait_until_over()
    assert clinic.chart(1) == ("admitted", "charged")
    assert clinic.step(id, "admit")["phase"] == "done"

    clinic.act(id, Replayed(reason="the fire is out"))
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "charged", "refunded", "discharged")
    clinic.check_history()


def test_or_is_undone_all_the_same_where_the_saga_says_so(clinic: Any) -> None:
    clinic.start_worker()
    id = fail_to_refund(clinic, STUBBORN, 1)
    clinic.wait_until_over()
    # Stuck it is either way, and says why.
    assert clinic.status(id) == "stuck"
    assert clinic.chart(1) == ("admitted", "charged", "discharged")
    assert clinic.step(id, "admit")["phase"] == "compensated"

    clinic.act(id, Replayed(reason="the fire is out"))
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "charged", "discharged", "refunded")
    assert len(clinic.runs(1, "discharge")) == 1
    clinic.check_history()
