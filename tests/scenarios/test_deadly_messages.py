"""A message that kills whoever handles it, as one that needs more memory than there is does."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.scenarios.clinic_sagas import FORGIVING, VISIT

pytestmark = pytest.mark.timeout(300)

CURED = ("admitted", "charged", "given aspirin", "letter sent")
#: Of a delivery under suspicion, before it is parked.
STARTS = {"SAGA_SUSPECT_STARTS": "3"}
WHY = "its worker died, or its lease ended, in each of 3 attempts"


class Host:
    """Starts a worker whenever it died."""

    def __init__(self, clinic: Any) -> None:
        self._clinic = clinic
        self._worker = clinic.start_worker(processes=1, SAGA_GRACE="0.1", **STARTS)
        self.deaths = 0

    def run_until(self, over: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            if not self._worker.running:
                self.deaths += 1
                self._worker = self._clinic.start_worker(processes=1, SAGA_GRACE="0.1", **STARTS)
            return over()

        self._clinic.wait_until(look, what)

    def run_until_given_up(self, id: UUID, deadly: str) -> None:
        """A delivery is left alone for a while after each death, which is not waited for."""
        turned = -1

        def over() -> bool:
            nonlocal turned
            if turned < self.deaths:
                self._clinic.turn_clock(id, deadly)
                turned = self.deaths
            return bool(self._clinic.delivery(id, deadly)[0] != "pending")

        self.run_until(over, f"{deadly} to be given up")


def test_a_deadly_message_is_parked_and_all_others_are_done(clinic: Any) -> None:
    clinic.tell(13, "admit", "die", times=99)
    ids = clinic.visit(VISIT, *range(1, 21))
    deadly = ids[12]
    host = Host(clinic)

    # They share a context, and batches, with it: they are done as soon as it is suspected.
    host.run_until(lambda: clinic.over() == 19, "the others to be done")
    assert clinic.delivery(deadly, "ward.admit")[0] == "pending"

    host.run_until_given_up(deadly, "ward.admit")
    clinic.wait_until_over()
    assert clinic.delivery(deadly, "ward.admit") == ("parked", 3, WHY)
    assert clinic.reason(deadly) == f"step admit: ward.admit is parked at ward: {WHY}"
    assert len(clinic.runs(13, "admit")) >= host.deaths >= 3
    assert clinic.statuses() == {"completed": 19, "stuck": 1}
    for patient in range(1, 21):
        assert clinic.chart(patient) == (() if patient == 13 else CURED)

    # The workers live from now on.
    (another,) = clinic.visit(VISIT, 21)
    clinic.wait_until_over()
    assert clinic.status(another) == "completed"
    clinic.check_history()


def test_a_deadly_call_to_the_outside_is_counted_from_the_first_death(clinic: Any) -> None:
    clinic.tell(1, "scan", "die", times=99)
    (id,) = clinic.visit(FORGIVING, 1)
    host = Host(clinic)
    host.run_until(lambda: host.deaths == 1, "the first death")
    host.run_until_given_up(id, "lab.scan")
    clinic.wait_until_over()
    state, attempts, error = clinic.delivery(id, "lab.scan")
    assert (state, attempts) == ("revoked", 3)  # parked, and then nobody's any more
    assert error.startswith(WHY)
    assert len(clinic.runs(1, "scan")) == 3
    # Each of these calls may have been heard, so what they may have done is undone.
    assert clinic.status(id) == "compensated"
    assert clinic.chart(1) == ("admitted", "erased", "discharged")
    clinic.check_history()
