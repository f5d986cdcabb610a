"""A saga is stuck, what was wrong is put right, and an operator lets it go on."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga import ActRefused, Replayed
from tests.scenarios.clinic_sagas import CHECKUP, VISIT

pytestmark = pytest.mark.timeout(300)

CURED = ("admitted", "charged", "given aspirin", "letter sent")


def get_stuck(clinic: Any, act: str, patient: int = 1) -> UUID:
    """A visit in which this act fails three times, after which it would do."""
    clinic.tell(patient, act, "fail", times=3)
    id: UUID = clinic.visit(VISIT, patient)[0]
    clinic.wait_until(lambda: clinic.status(id) == "stuck", f"{act} to fail for good")
    clinic.wait_until_over()
    return id


def test_it_goes_on_where_it_failed_and_nothing_is_done_twice(clinic: Any) -> None:
    clinic.start_worker()
    id = get_stuck(clinic, "charge")
    assert clinic.chart(1) == ("admitted",)
    bed = clinic.data(id)["bed"]
    parked = clinic.runs(1, "charge")

    acted = clinic.act(id, Replayed(reason="the desk is new"))
    assert (acted.saga_id, acted.before, acted.after) == (id, "stuck", "running")
    assert acted.sent == ("till.charge",)
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.chart(1) == CURED
    assert clinic.data(id)["bed"] == bed
    # The failed command is a new message that means the same, so the key is that of before.
    assert len(parked) == 3
    assert len(set(parked)) == 1
    assert clinic.runs(1, "charge")[3] in parked
    generations = {name: clinic.step(id, name)["generation"] for name in ("admit", "charge")}
    assert generations == {"admit": 1, "charge": 2}
    assert clinic.count("inbox", "last_error LIKE '%%superseded%%'") == 1
    assert clinic.query("SELECT actor, act, reason FROM audit") == [
        ("ann", "replayed", "the desk is new")
    ]
    clinic.check_history()


def test_it_goes_on_with_corrected_data(clinic: Any) -> None:
    clinic.start_worker()
    id = get_stuck(clinic, "give")
    before = clinic.data(id)
    clinic.act(id, Replayed(reason="she is allergic", data={"drug": "honey"}))
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.data(id) == before | {"drug": "honey"}
    assert clinic.chart(1) == ("admitted", "charged", "given honey", "letter sent")
    assert clinic.query("SELECT detail -> 'data' FROM audit") == [({"drug": "honey"},)]
    clinic.check_history()


def test_it_goes_on_from_an_earlier_step(clinic: Any) -> None:
    clinic.start_worker()
    id = get_stuck(clinic, "give")
    bed = clinic.data(id)["bed"]
    clinic.act(id, Replayed(reason="she was charged too much", from_step="charge"))
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.chart(1) == (
        "admitted",
        "charged",
        "refunded",
        "charged",
        "given aspirin",
        "letter sent",
    )
    assert clinic.data(id)["bed"] == bed  # she was not moved
    assert clinic.step(id, "charge")["generation"] == 2
    clinic.check_history()


def test_what_may_have_been_done_outside_is_undone_before_it_is_done_again(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "scan", "fail", times=3)
    (id,) = clinic.visit(CHECKUP, 1)
    clinic.wait_until(lambda: clinic.status(id) == "stuck", "the scan to fail for good")
    clinic.act(id, Replayed(reason="the machine is new", from_step="scan"))
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.chart(1) == ("admitted", "erased", "scanned")
    clinic.check_history()


def test_of_two_operators_at_once_one_wins(clinic: Any) -> None:
    clinic.start_worker()
    id = get_stuck(clinic, "charge")
    engine = clinic.runtime.engine

    def replay(connection: Connection, actor: str) -> None:
        act = Replayed(reason=f"{actor} saw to it")
        clinic.runtime._administration.acts.act(
            SqlAlchemyUnitOfWork(connection), id, act, actor=actor
        )

    with ThreadPoolExecutor() as pool, engine.connect() as anns, engine.connect() as bobs:
        # Ann is about to commit; Bob, who saw the same stuck saga, comes second.
        anns.begin()
        replay(anns, "ann")
        bob = bobs.scalar(text("SELECT pg_backend_pid()"))
        second = pool.submit(replay, bobs, "bob")
        waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
        clinic.wait_until(lambda: clinic.query(waits, bob), "Bob to wait for Ann")
        anns.commit()
        with pytest.raises(ActRefused, match="and only a stuck saga can be replayed"):
            second.result()
        bobs.rollback()
    clinic.turn_clock(id, "till.charge")  # nobody rang for it
    clinic.wait_until_over()
    assert clinic.status(id) == "completed"
    assert clinic.chart(1) == CURED
    assert clinic.query("SELECT actor FROM audit") == [("ann",)]
    clinic.check_history()


def test_what_is_not_stuck_is_not_replayed(clinic: Any) -> None:
    def refusal(id: UUID, **changes: Any) -> str:
        with pytest.raises(ActRefused) as refused:
            clinic.act(id, Replayed(reason="again", **changes))
        return str(refused.value).removeprefix(f"saga {id} cannot be replayed: ")

    clinic.start_worker()
    clinic.tell(1, "charge", "hold")
    (id,) = clinic.visit(VISIT, 1)
    clinic.wait_for_run(1, "charge")
    assert refusal(id) == "it is running, and only a stuck saga can be replayed"
    clinic.let_go(1, "charge")
    clinic.wait_until_over()
    assert refusal(id) == "it is completed, and only a stuck saga can be replayed"

    stuck = get_stuck(clinic, "charge", patient=2)
    assert refusal(stuck, from_step="nap") == (
        "it has no step 'nap'; its steps are admit, charge, give, letter"
    )
    assert refusal(stuck, from_step="give") == "step give was not begun yet"
    assert refusal(stuck, data={"shoe": 7}) == "the saga's data has no field 'shoe'"
    assert clinic.count("audit") == 0
    assert clinic.status(stuck) == "stuck"
    clinic.check_history()
