"""The judges of the partner's log, of standstills and of frozen processes are judged themselves."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos.breaking import broken_at
from tests.chaos.effects import Ended
from tests.chaos.freezing import SLOTS, Frozen, read_frozen, take_slot
from tests.chaos.partner_server import Ledger, Order, read_orders
from tests.chaos.standstill import BOUND, Standstill, judge_standstill
from tests.chaos.tour import prices
from tests.chaos.tour_checks import blind_undos, done_twice, unlike_orders, wrong_balance
from tests.chaos.trips import make_trips

TRIP = make_trips(1, seed=1)[0]
CENTS = prices(TRIP)["deposit"]


def order(key: str, op: str = "do", **changes: object) -> Order:
    made = Order(key, op, str(TRIP.trip_id), "deposit", CENTS, undoes=None, outcome="done")
    return replace(made, **changes)  # type: ignore[arg-type]


ONCE = [order("a"), order("a", outcome="repeat")]
UNDONE = [*ONCE, order("b", "undo", undoes="a"), order("b", "undo", undoes="a", outcome="repeat")]
VOID = [order("b", "undo", undoes="a", outcome="nothing"), order("a", outcome="void")]


#: The second attempt's call was lost on its way; it is undone, as nobody knows that.
LOST = [*UNDONE, order("e", "undo", undoes="d", outcome="nothing")]


@pytest.mark.parametrize("orders", [ONCE, UNDONE, VOID, LOST, [*UNDONE, order("c")]])
def test_what_is_right_is_not_complained_of(orders: Sequence[Order]) -> None:
    for check in (unlike_orders, done_twice, blind_undos):
        assert list(check(orders)) == []


@pytest.mark.parametrize(
    ("orders", "complaint"),
    [
        ([*ONCE, order("a", cents=1, outcome="repeat")], "used for"),
        ([*ONCE, order("a", "undo", outcome="repeat")], "was used for do deposit and undo"),
        ([*ONCE, order("a")], "had two effects"),
        ([*UNDONE, order("b", "undo", undoes="c", outcome="repeat")], "undid a, and then c"),
    ],
)
def test_a_key_that_is_used_for_two_things_is_seen(orders: list[Order], complaint: str) -> None:
    assert complaint in "".join(unlike_orders(orders))


def test_what_is_done_again_under_another_key_is_seen() -> None:
    assert "stood already under a" in "".join(done_twice([*ONCE, order("c")]))


def test_an_undo_that_is_blind_is_seen() -> None:
    assert "was not told what" in "".join(blind_undos([*ONCE, order("b", "undo")]))


def test_an_undo_of_something_else_is_seen() -> None:
    undone = order("b", "undo", undoes="z", outcome="nothing")
    assert "and z was undone" in "".join(blind_undos([*ONCE, undone]))


@pytest.mark.parametrize(
    ("status", "orders", "has"),
    [
        ("completed", [], 0),
        ("completed", [*ONCE, order("c")], 2 * CENTS),
        ("compensated", ONCE, CENTS),
        ("compensated", [*UNDONE, order("c", "undo")], -CENTS),
    ],
)
def test_money_that_is_with_the_wrong_party_is_seen(
    status: str, orders: list[Order], has: int
) -> None:
    ended = {TRIP.reference: Ended(uuid4(), status, {})}
    assert f"the partner has {has} for deposit" in "".join(wrong_balance([TRIP], ended, orders))


def test_the_partner_acts_once_for_a_key_and_not_after_its_undo(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "log")
    asked = {"trip": "t", "step": "deposit", "cents": 1, "refuse": False}
    do = {**asked, "op": "do", "undoes": None}
    undo = {**asked, "op": "undo"}
    assert ledger.take({**do, "key": "a"})
    assert ledger.take({**do, "key": "a"})
    assert ledger.take({**undo, "key": "b", "undoes": "a"})
    assert ledger.take({**undo, "key": "c", "undoes": "d"})
    assert not ledger.take({**do, "key": "d"})
    ledger.close()
    outcomes = [each.outcome for each in read_orders(tmp_path / "log")]
    assert outcomes == ["done", "repeat", "done", "nothing", "void"]


def test_bugs_are_met_everywhere_and_not_by_most() -> None:
    met = [broken_at(trip.trip_id) for trip in make_trips(400, seed=1)]
    assert set(met) == {None, "deposit", "refund", "insure", "uninsure", "voucher"}
    assert met.count(None) > len(met) / 2


@pytest.mark.parametrize(
    ("seconds", "call", "holds"),
    [(1.0, 1.0, True), (BOUND + 1, 1.0, False), (1.0, BOUND + 1, False)],
)
def test_standing_still_for_longer_than_the_bound_is_seen(
    seconds: float, call: float, holds: bool
) -> None:
    found = [Standstill("trip", seconds, "saga.started", 9.0)]
    check = judge_standstill(found, call, lambda _: ["freeze_before_hop"])
    assert check.ok is holds
    assert ("freeze_before_hop" in check.detail) is (seconds > BOUND)


def test_only_so_many_are_frozen_at_once(tmp_path: Path) -> None:
    taken: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda group: taken.append(take_slot(tmp_path, Frozen(group, "f", 0.0))),
            args=(group,),
        )
        for group in range(SLOTS + 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == SLOTS == len(list(read_frozen(tmp_path)))
