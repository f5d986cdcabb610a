"""Calls to the outside that were made are undone, though their handlers failed then."""

from typing import Any
from uuid import UUID

import pytest

from internals.database.unit_of_work import joined
from saga.messages import Cancelled, Replayed, Skipped
from tests.boundary.worlds.causal_trees import Node, Wood

WHY = "the gale is over"


@pytest.fixture
def wood(runtime: Any, outside: Any) -> Wood:
    return Wood(runtime, outside)


def tree() -> Node:
    """A trunk, and a limb whose handler calls the outside: elm's is external."""
    return Node(name="trunk", branches=(Node(name="limb", context="elm"),))


def act(wood: Wood, id: UUID, message: Any) -> None:
    with wood.runtime.engine.begin() as connection:
        wood.runtime._administration.acts.act(joined(connection), id, message, actor="ann")


def calls(wood: Wood) -> list[tuple[str, str | None]]:
    """The keys of the orders to undo, and what each undoes, the first to be done first."""
    return [
        (f"{consumer}:{id}", undoes)
        for consumer, id, undoes in wood.outside.execute(
            "SELECT recipient, coalesce(intent_id, id), undoes FROM outbox "
            "WHERE kind = 'saga.undo' ORDER BY seq DESC"
        )
    ]


def test_one_that_is_parked_is_undone_when_its_saga_is_cancelled(wood: Wood) -> None:
    wood.broken.add("limb")
    id = wood.plant(tree())
    wood.settle()
    assert wood.status(id) == "stuck"
    act(wood, id, Cancelled(reason=WHY))
    wood.settle()
    assert wood.status(id) == "compensated"
    assert wood.undone() == ["limb", "trunk"]
    assert set(wood.open().values()) == {0}


def test_one_that_fails_while_all_is_being_undone_is_undone_too(wood: Wood) -> None:
    begun: list[UUID] = []

    def give_up(node: Node) -> None:
        if node.name == "limb":
            act(wood, begun[0], Cancelled(reason=WHY))
            wood.runtime.answer("saga.wood")
            raise RuntimeError("the limb fell")

    wood.seen = give_up
    begun.append(wood.plant(tree()))
    wood.settle()
    assert wood.status(begun[0]) == "compensated"
    assert wood.undone() == ["limb", "trunk"]


def test_the_undo_of_a_call_says_which_call_that_was(wood: Wood) -> None:
    wood.broken.add("limb")
    id = wood.plant(tree())
    wood.settle()
    [(limb,)] = wood.outside.execute("SELECT id FROM outbox WHERE kind = 'elm.branched'")
    act(wood, id, Cancelled(reason=WHY))
    wood.settle()
    undone = calls(wood)
    assert undone[0][1] == f"elm:{limb}"
    assert undone[1][1] is not None
    assert undone[1][1].startswith("ash:")
    assert len({key for key, _ in undone}) == 2


def test_two_runs_that_meant_the_same_are_undone_under_one_key(wood: Wood) -> None:
    wood.broken.add("trunk")  # its own command fails, and is replayed
    id = wood.plant(tree())
    wood.settle()
    act(wood, id, Replayed(reason=WHY))
    wood.settle()
    wood.broken.clear()
    act(wood, id, Replayed(reason=WHY))
    wood.outside.execute("UPDATE inbox SET started_at = now() WHERE state = 'revoked'")  # as if
    wood.settle(["ash"])
    act(wood, id, Cancelled(reason=WHY))
    wood.settle()
    assert wood.status(id) == "compensated"
    of_the_trunk = [(key, undoes) for key, undoes in calls(wood) if key.startswith("ash:")]
    assert len(of_the_trunk) == 3  # two failed, one done
    assert len(set(of_the_trunk)) == 1


def test_what_was_skipped_by_hand_is_not_undone(wood: Wood) -> None:
    wood.broken.add("trunk")
    id = wood.plant(tree())
    wood.settle()
    act(wood, id, Skipped(step="plant", reason=WHY))
    wood.settle()
    assert wood.status(id) == "completed"
    assert calls(wood) == []
