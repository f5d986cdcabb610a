"""Somebody wants a saga undone."""

from typing import Any
from uuid import UUID

import pytest

from saga import ActRefused
from tests.scenarios.clinic_sagas import VISIT

pytestmark = pytest.mark.timeout(300)


def cancel(clinic: Any, id: UUID, reason: str = "she feels well again") -> None:
    """Cancel in the transaction of one's own writes, as a host does."""
    with clinic.runtime.engine.begin() as connection:
        clinic.runtime.cancel(connection, id, reason=reason, actor="ann")


def refusal(clinic: Any, id: UUID) -> str:
    with pytest.raises(ActRefused) as refused:
        cancel(clinic, id)
    return str(refused.value).removeprefix(f"saga {id} cannot be cancelled: ")


def test_a_cancelled_saga_turns_back_when_the_step_in_flight_is_known(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "hold")
    (id,) = clinic.visit(VISIT, 1)
    clinic.wait_for_run(1, "charge")
    cancel(clinic, id)
    # It is recorded at once, by whom and why; nothing is undone while the till is at it.
    assert clinic.query("SELECT actor, act, reason, saga_id FROM audit") == [
        ("ann", "cancelled", "she feels well again", id)
    ]
    (other,) = clinic.visit(VISIT, 2)
    clinic.wait_until(lambda: clinic.status(other) == "completed", "another visit")
    assert clinic.status(id) == "compensating"
    assert clinic.chart(1) == ("admitted",)

    clinic.let_go(1, "charge")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.reason(id) == "cancelled: she feels well again"
    assert clinic.chart(1) == ("admitted", "charged", "refunded", "discharged")
    clinic.check_history()


def test_cancelled_twice_is_cancelled_once(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "hold")
    clinic.tell(1, "refund", "hold")
    (id,) = clinic.visit(VISIT, 1)
    clinic.wait_for_run(1, "charge")
    cancel(clinic, id)
    cancel(clinic, id)
    clinic.let_go(1, "charge")
    clinic.wait_for_run(1, "refund")
    cancel(clinic, id)  # while it turns back
    clinic.let_go(1, "refund")
    clinic.wait_until_over()
    assert refusal(clinic, id) == "it is compensated already"
    assert clinic.chart(1) == ("admitted", "charged", "refunded", "discharged")
    # What was refused is not in the audit.
    assert clinic.count("audit") == 3
    clinic.check_history()


def test_after_the_pivot_it_is_refused_in_words(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "letter", "hold")
    (id,) = clinic.visit(VISIT, 1)
    clinic.wait_for_run(1, "letter")
    assert refusal(clinic, id) == "it has passed its pivot, step give, and only goes forward"
    clinic.let_go(1, "letter")
    clinic.wait_until_over()
    assert refusal(clinic, id) == "it is completed already"
    assert clinic.chart(1) == ("admitted", "charged", "given aspirin", "letter sent")
    assert clinic.count("audit") == 0
    clinic.check_history()


def test_what_was_cancelled_during_the_pivot_goes_on_when_the_pivot_is_done(clinic: Any) -> None:
    clinic.start_worker(SAGA_BATCH="1")  # so that both drugs are given at the same time
    clinic.tell(1, "give", "hold")
    clinic.tell(2, "give", "hold")
    clinic.tell(2, "give", "reject")
    done, refused = clinic.visit(VISIT, 1, 2)
    for patient in (1, 2):
        clinic.wait_for_run(patient, "give")
    cancel(clinic, done)
    cancel(clinic, refused)
    for patient in (1, 2):
        clinic.let_go(patient, "give")
    clinic.wait_until_over()
    assert clinic.status(done) == "completed"
    assert clinic.chart(1) == ("admitted", "charged", "given aspirin", "letter sent")
    assert clinic.status(refused) == "compensated"
    assert clinic.chart(2) == ("admitted", "charged", "refunded", "discharged")
    clinic.check_history()
