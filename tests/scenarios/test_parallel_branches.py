"""Steps that are commanded together are joined when the outcome of each is known."""

from typing import Any

import pytest

from tests.scenarios.clinic_sagas import SURGERY

pytestmark = pytest.mark.timeout(300)


def test_the_next_step_waits_for_all_branches(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "scan", "hold")
    held, free = clinic.visit(SURGERY, 1, 2)
    clinic.wait_until(lambda: clinic.status(free) == "completed", "another surgery")
    clinic.wait_until(
        lambda: set(clinic.chart(1)) == {"admitted", "booked", "rostered", "charged"},
        "all branches but one",
    )
    assert clinic.status(held) == "running"
    assert clinic.step(held, "give") == {}
    clinic.let_go(1, "scan")
    clinic.wait_until_over()
    assert clinic.status(held) == "completed"
    assert clinic.chart(1)[-2:] == ("scanned", "given aspirin")
    clinic.check_history()


def test_what_is_under_way_when_a_branch_is_refused_is_awaited_and_then_undone(
    clinic: Any,
) -> None:
    clinic.start_worker()
    clinic.tell(1, "scan", "hold")
    clinic.tell(1, "charge", "hold")
    clinic.tell(1, "charge", "reject")
    (id,) = clinic.visit(SURGERY, 1)
    clinic.wait_for_run(1, "scan")
    clinic.wait_until(lambda: clinic.step(id, "book").get("phase") == "done", "the theatre")
    clinic.let_go(1, "charge")
    clinic.wait_until(lambda: clinic.status(id) == "compensating", "the charge to be refused")
    # The machine is at it, so its command cannot be taken back; until it is known, nothing goes.
    clinic.wait_until(lambda: not clinic.pending(id, "saga.revoked"), "the answer to that")
    assert clinic.step(id, "scan")["phase"] == "commanded"
    assert clinic.chart(1) == ("admitted", "booked", "rostered")

    clinic.let_go(1, "scan")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    assert clinic.reason(id) == "step charge: no charge today"
    # Undone in the reverse of the order in which they were done, not in which they stand.
    assert [what for what in clinic.chart(1) if what != "sent home"] == [
        "admitted",
        "booked",
        "rostered",
        "scanned",
        "erased",
        "released",
        "discharged",
    ]
    assert clinic.chart(1).count("sent home") == 1
    clinic.check_history()


def test_what_nobody_began_when_a_branch_is_refused_is_taken_back(clinic: Any) -> None:
    clinic.start_worker(CLINIC_SERVES="ward till theatre crew")
    clinic.tell(1, "charge", "reject")
    (id,) = clinic.visit(SURGERY, 1)
    clinic.wait_until(lambda: clinic.status(id) == "compensated", "the charge to be refused")
    assert clinic.step(id, "scan")["phase"] == "revoked"

    clinic.start_worker()
    (other,) = clinic.visit(SURGERY, 2)
    clinic.wait_until_over()
    assert clinic.status(other) == "completed"
    assert clinic.runs(1, "scan") == clinic.runs(1, "erase") == []
    assert "scanned" not in clinic.chart(1)
    assert clinic.chart(1)[-1] in ("discharged", "sent home")
    clinic.check_history()


def test_branches_are_undone_in_the_reverse_of_their_completion(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "give", "reject")
    clinic.tell(1, "book", "hold")  # the first branch in the definition is the last to be done
    (id,) = clinic.visit(SURGERY, 1)
    clinic.wait_until(
        lambda: all(clinic.step(id, name).get("phase") == "done" for name in ("scan", "charge")),
        "the other branches",
    )
    clinic.let_go(1, "book")
    clinic.wait_until_over()
    assert clinic.status(id) == "compensated"
    undone = [w for w in clinic.chart(1) if w in ("released", "erased", "refunded", "discharged")]
    assert undone[0] == "released"
    assert undone[-1] == "discharged"
    done = [w for w in clinic.chart(1) if w in ("scanned", "charged")]
    undoing = {"scanned": "erased", "charged": "refunded"}
    ends = {name: clinic.step(id, name)["position"] for name in ("scan", "charge")}
    last = "scanned" if ends["scan"] > ends["charge"] else "charged"
    assert sorted(done) == ["charged", "scanned"]
    assert undone[1] == undoing[last]
    clinic.check_history()
