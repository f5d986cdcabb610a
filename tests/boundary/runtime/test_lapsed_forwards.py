"""What somebody was forwarding who died is due again when the lease is over, and may have arrived."""

from datetime import timedelta
from typing import Any

import pytest
from psycopg import OperationalError

from internals.database.commit_points import Boundary, watch
from tests.boundary.worlds.causal_trees import Node, Wood
from tests.boundary.worlds.own_database_app import Mill, bread
from tests.boundary.worlds.own_database_faults import Gone


def die_after_forwarding(boundary: Boundary, moment: str) -> None:
    """It is there, and nobody at home knows."""
    if (boundary, moment) == (Boundary.FORWARD, "after"):
        watch(None)
        raise Gone


def lapse(outside: Any) -> None:
    lapsed = outside.execute(
        "UPDATE inbox SET due_at = now(), ring_at = now() WHERE wait_reason = 'forwarding'"
    )
    assert lapsed.rowcount == 1


def test_a_command_is_not_taken_for_unstarted_at_its_deadline(mill: Mill, outside: Any) -> None:
    mill.open(saga=bread(timeout=timedelta(hours=1)))
    [id] = mill.order(1)
    watch(die_after_forwarding)
    with pytest.raises(Gone):
        mill.settle("mill")
    lapse(outside)
    mill.pass_deadline()
    assert mill.at_home()["state"] == "pending"
    mill.settle()
    assert mill.status(id) == "compensated"
    assert mill.milled() == [("spilt", 1)]  # in doubt it was undone, and is not begun any more
    mill.check()


@pytest.mark.parametrize("wood", ["cedar_has_its_own"], indirect=True)
def test_a_reaction_is_not_taken_back_when_its_step_is_undone(wood: Wood, outside: Any) -> None:
    limb = Node(name="limb", context="cedar")
    no = Node(name="no", context="beech", does="refuse")
    id = wood.plant(Node(name="trunk", branches=(limb, no)))
    wood.settle(["ash"])
    watch(die_after_forwarding)
    with pytest.raises(Gone):
        wood.settle(["cedar"])
    lapse(outside)
    wood.settle(["beech", "saga.wood"])
    [state] = outside.execute("SELECT state FROM inbox WHERE consumer = 'cedar'").fetchone()
    assert state == "pending"
    wood.settle()
    assert wood.status(id) == "compensated"
    assert sorted(wood.undone()) == sorted(wood.ran()) == ["limb", "trunk"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_lost_the_lease_says_nothing_any_more(mill: Mill, outside: Any, moment: str) -> None:
    """A forwarder that was frozen says that it arrived, or did not, while another forwards it."""
    mill.order(1)
    hops = 0

    def overtaken(boundary: Boundary, at: str) -> None:
        nonlocal hops
        if (boundary, at) == (Boundary.FORWARD, moment):
            outside.execute(
                "UPDATE inbox SET lease = gen_random_uuid() WHERE wait_reason = 'forwarding'"
            )
            if moment == "before":
                raise OperationalError("the mill is down")
        hops += (boundary, at) == (Boundary.HOP, "before")
        if hops == 2:
            raise Gone  # before the mill handles it

    watch(overtaken)
    with pytest.raises((Gone, OperationalError)):
        mill.settle("mill")
    row = mill.at_home()
    assert (row["state"], row["wait_reason"]) == ("pending", "forwarding")
    assert row["lease"] is not None
    assert row["due_at"] is not None
