"""Postgres breaks transactions off, or there are too few connections: that is nobody's failure.

The handlers here have one attempt: a failure that was counted would park their deliveries.
"""

from typing import Any
from uuid import UUID

import pytest

from tests.scenarios.clinic_sagas import CHECKUP, FRAGILE, VISIT

pytestmark = pytest.mark.timeout(300)

CURED = ("charged", "scanned", "given aspirin")
VISITED = ("admitted", "charged", "given aspirin", "letter sent")


def check_nothing_counted(clinic: Any, *ids: UUID) -> None:
    clinic.wait_until_over()
    assert {clinic.status(id) for id in ids} == {"completed"}
    assert clinic.count("inbox", "attempts > 0 OR state = 'parked'") == 0
    clinic.check_history()


def test_two_handlers_that_lock_each_other_out_are_both_done(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(2, "charge", "hold")
    for how in ("use a", "hold", "use b"):
        clinic.tell(1, "charge", how)
    for how in ("use b", "hold", "use a"):
        clinic.tell(2, "give", how)
    (giving,) = clinic.visit(FRAGILE, 2)
    clinic.wait_for_hold(2, "charge")
    clinic.let_go(2, "charge")
    clinic.wait_for_hold(2, "give")  # has b
    charging, *others = clinic.visit(FRAGILE, 1, *range(10, 20))
    clinic.wait_for_hold(1, "charge")  # has a, in a batch with others perhaps
    clinic.let_go(1, "charge")
    clinic.let_go(2, "give")
    check_nothing_counted(clinic, giving, charging, *others)
    # One of the two gave way and was run again; what its first run wrote is gone.
    assert len(clinic.runs(1, "charge")) + len(clinic.runs(2, "give")) >= 3
    assert clinic.query("SELECT name, used FROM room ORDER BY name") == [("a", 2), ("b", 2)]
    assert [clinic.chart(n) for n in (1, 2, *range(10, 20))] == [CURED] * 12


def test_one_that_would_overwrite_what_it_has_not_seen_is_run_again(clinic: Any) -> None:
    clinic.start_worker("clinic_repeatable_worker")
    for how in ("use a", "hold"):
        clinic.tell(1, "charge", how)
    for how in ("hold", "use a"):
        clinic.tell(2, "give", how)
    (giving,) = clinic.visit(FRAGILE, 2)
    clinic.wait_for_hold(2, "give")  # sees a as it is now
    (charging,) = clinic.visit(FRAGILE, 1)
    clinic.wait_for_hold(1, "charge")
    clinic.let_go(1, "charge")
    clinic.wait_until(lambda: clinic.status(charging) == "completed", "the first to be done")
    clinic.let_go(2, "give")
    check_nothing_counted(clinic, giving, charging)
    assert len(clinic.runs(2, "give")) >= 2
    assert clinic.query("SELECT used FROM room WHERE name = 'a'") == [(2,)]
    assert (clinic.chart(1), clinic.chart(2)) == (CURED, CURED)


def test_a_connection_that_is_cut_under_a_handler_costs_no_attempt(clinic: Any) -> None:
    clinic.start_worker()
    clinic.tell(1, "charge", "hold")
    ids = clinic.visit(FRAGILE, *range(1, 11))
    clinic.wait_for_hold(1, "charge")
    cut = "SELECT pg_terminate_backend(backend) FROM log WHERE patient = 1 AND act = 'charge'"
    assert clinic.query(cut) == [(True,)]
    clinic.let_go(1, "charge")
    check_nothing_counted(clinic, *ids)
    assert len(clinic.runs(1, "charge")) == 2
    assert [clinic.chart(n) for n in range(1, 11)] == [CURED] * 10


def test_a_connection_that_is_cut_after_a_call_to_the_outside_costs_no_attempt(
    clinic: Any,
) -> None:
    clinic.start_worker()
    clinic.tell(1, "read", "hold")
    (id,) = clinic.visit(FRAGILE, 1)
    clinic.wait_for_hold(1, "read")
    cut = "SELECT pg_terminate_backend(backend) FROM log WHERE act = 'read'"
    assert clinic.query(cut) == [(True,)]
    clinic.let_go(1, "read")
    check_nothing_counted(clinic, id)
    first, second = clinic.runs(1, "scan")
    assert first == second
    assert clinic.chart(1) == CURED


def test_connections_that_are_cut_again_and_again_cost_nothing(clinic: Any) -> None:
    clinic.start_worker(SAGA_BATCH="2")
    ids = clinic.visit(VISIT, *range(1, 31))
    cuts = 0
    while cuts < 10 and clinic.under_way():
        ((seen,),) = clinic.query("SELECT count(*) FROM log")
        clinic.wait_until(
            lambda seen=seen: clinic.count("log") > seen or not clinic.under_way(), "a run"
        )
        cuts += sum(
            found
            for (found,) in clinic.query(
                "SELECT pg_terminate_backend(backend) FROM log JOIN pg_stat_activity ON pid = backend "
                "ORDER BY line DESC LIMIT 1"
            )
        )
    assert cuts == 10
    check_nothing_counted(clinic, *ids)
    assert [clinic.chart(n) for n in range(1, 31)] == [VISITED] * 30


def test_everything_is_done_by_many_threads_with_one_connection(clinic: Any) -> None:
    worker = clinic.start_worker("clinic_tight_worker", processes=1, threads=8)
    clinic.tell(1, "charge", "hold")
    (held,) = clinic.visit(FRAGILE, 1)
    clinic.wait_for_hold(1, "charge")
    # That one has the only connection; the others come and find none.
    visits = clinic.visit(VISIT, *range(10, 40))
    checkups = clinic.visit(CHECKUP, *range(40, 50))
    clinic.wait_until(lambda: worker.log().count("TimeoutError") >= 4, "the others to find none")
    clinic.let_go(1, "charge")
    clinic.wait_until_over()
    assert clinic.statuses() == {"completed": 41}
    assert clinic.status(held) == "completed"
    assert {clinic.status(id) for id in (*visits, *checkups)} == {"completed"}
    assert clinic.chart(1) == CURED
    assert [clinic.chart(n) for n in range(10, 40)] == [VISITED] * 30
    assert [clinic.chart(n) for n in range(40, 50)] == [("admitted", "scanned")] * 10
    assert clinic.count("inbox", "state = 'parked'") == 0
    clinic.check_history()
