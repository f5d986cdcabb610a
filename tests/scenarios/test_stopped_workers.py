"""A worker is asked to stop while its handlers are at work."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.scenarios.clinic_sagas import CHECKUP, VISIT

pytestmark = pytest.mark.timeout(300)


def test_what_is_under_way_is_finished_and_the_rest_is_left(clinic: Any) -> None:
    worker = clinic.start_worker(processes=1, threads=4)
    clinic.tell(1, "charge", "hold")
    clinic.tell(2, "scan", "hold")
    (slow,) = clinic.visit(VISIT, 1)
    (outside,) = clinic.visit(CHECKUP, 2)
    clinic.wait_for_hold(1, "charge")
    clinic.wait_for_hold(2, "scan")

    with ThreadPoolExecutor() as deploy:
        stopped = deploy.submit(worker.stop)
        clinic.wait_until(lambda: "Shutting down..." in worker.log(), "it to hear")
        # It takes on nothing new, and does not drop what it is at.
        late = clinic.visit(VISIT, *range(10, 20))
        assert worker.running
        clinic.let_go(1, "charge")
        clinic.let_go(2, "scan")
        assert stopped.result() == 0

    assert clinic.chart(1)[:2] == ("admitted", "charged")
    assert clinic.delivery(slow, "till.charge") == ("done", 0, None)
    assert clinic.chart(2) == ("admitted", "scanned")
    assert clinic.delivery(outside, "lab.scan")[0] == "done"
    assert [clinic.status(id) for id in late] == ["running"] * 10

    clinic.start_worker()
    clinic.wait_until_over()
    assert clinic.statuses() == {"completed": 12}
    cured = ("admitted", "charged", "given aspirin", "letter sent")
    assert [clinic.chart(n) for n in (1, *range(10, 20))] == [cured] * 11
    # Nothing was started again that the first worker had begun.
    assert len(clinic.runs(1, "charge")) == len(clinic.runs(2, "scan")) == 1
    clinic.check_history()
