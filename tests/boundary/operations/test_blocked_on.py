"""What a saga waits for, where its steps are causal or what it waits for goes in order."""

import re
from typing import Any
from uuid import UUID

import pytest

from boundary import Runtime
from boundary.operations import SagaDetail, show_saga
from boundary.rendering.json_documents import detail_document
from internals.database.unit_of_work import joined
from saga import SETTLED
from tests.boundary.worlds.causal_trees import Node, Wood
from tests.boundary.worlds.ordered_events import Board, Drive

STEP = "step plant: "
ASKED = "waits for everything below ash.plant to be done, asked of ash at TIME; "


@pytest.fixture
def board(runtime: Any, outside: Any) -> Board:
    return Board(runtime, outside, until=SETTLED)


def shown(runtime: Runtime, id: UUID) -> SagaDetail:
    with runtime.engine.begin() as connection:
        return show_saga(joined(connection), runtime.settings.db_schema, id)


def sentence(runtime: Runtime, id: UUID) -> str:
    """What it waits for, without what is another time or id each time."""
    said = re.sub(r"\d\d:\d\d:\d\d", "TIME", str(shown(runtime, id).waits_for))
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", said)


def node(name: str, *branches: Node, context: str = "ash", does: str = "grow") -> Node:
    return Node(name=name, context=context, does=does, branches=branches)


class TestUndo:
    TREE = node("trunk", node("limb", context="beech"), node("bough", context="cedar"))

    def test_it_says_what_is_being_undone(self, wood: Wood) -> None:
        id = wood.plant(self.TREE, fell=True)
        wood.settle(["ash", "beech", "cedar"])
        wood.settle(["saga.wood", "ash"])
        wood.runtime.answer("saga.wood")
        assert wood.status(id) == "compensating"
        assert sentence(wood.runtime, id) == (
            f"{STEP}is being undone, 3 undos are open: "
            "undo of cedar.branched is with cedar since TIME; and 2 more"
        )

    def test_one_that_is_parked_is_named_once_and_with_its_error(self, wood: Wood) -> None:
        wood.stubborn = {"limb"}
        id = wood.plant(self.TREE, fell=True)
        wood.settle(["ash", "beech", "cedar"])
        wood.settle()
        assert wood.status(id) == "stuck"
        assert sentence(wood.runtime, id) == (
            f"{STEP}is being undone, 2 undos are open: undo of beech.branched is parked at beech "
            "after 1 attempt: RuntimeError: limb stands fast; and 1 more"
        )

    def test_what_an_undo_set_off_is_told_as_well(self, wood: Wood) -> None:
        trunk = node("trunk").model_copy(update={"asks": True})
        id = wood.plant(trunk, fell=True)
        wood.settle(["ash", "saga.wood"])
        assert sentence(wood.runtime, id) == (
            f"{STEP}is being undone, 1 delivery is open: "
            "dogwood.branched is with dogwood since TIME"
        )

    def test_what_is_handled_still_is_told_as_well(self, wood: Wood) -> None:
        told = []
        id: UUID

        def look(reaction: Node) -> None:
            if reaction.name == "limb":  # while it is handled, its delivery is locked
                wood.runtime.answer("ash")
                wood.runtime.answer("saga.wood")
                told.append(sentence(wood.runtime, id))

        refused = node("no", does="refuse")
        id = wood.plant(node("trunk", node("limb", context="beech"), refused))
        wood.runtime.answer("ash")
        wood.seen = look
        wood.settle(["beech"])
        assert told == [
            f"{STEP}is being undone, 1 undo and 1 delivery are open: beech.branched is with beech "
            "since TIME; undo of ash.plant is with ash since TIME"
        ]

    def test_when_nothing_is_open_the_saga_is_about_to_be_told(self, wood: Wood) -> None:
        id = wood.plant(self.TREE, fell=True)
        wood.settle(["ash", "beech", "cedar"])
        wood.settle(["saga.wood", "ash"])
        wood.runtime.answer("saga.wood")
        wood.settle(["ash", "beech", "cedar"])
        assert sentence(wood.runtime, id) == (
            f"{STEP}is being undone, nothing is open any more; "
            "saga.settled is with saga.wood since TIME"
        )


class TestSettled:
    def test_it_says_how_much_is_open_and_names_some(self, wood: Wood) -> None:
        twigs = (node(f"twig-{n}", context="beech") for n in range(5))
        id = wood.plant(node("trunk", *twigs))
        wood.settle(["ash"])
        assert sentence(wood.runtime, id) == (
            f"{STEP}{ASKED}5 deliveries are open: "
            "beech.branched is with beech since TIME; and 4 more"
        )

    def test_of_many_sorts_three_are_named(self, wood: Wood) -> None:
        wood.broken = {"limb-0", "limb-1", "limb-2", "limb-3"}
        limbs = (node(f"limb-{n}", context="beech") for n in range(4))
        id = wood.plant(node("trunk", *limbs, node("bough", context="cedar")))
        wood.settle(["ash", "beech", "saga.wood"])
        parked = "beech.branched is parked at beech after 1 attempt: RuntimeError: limb-{} fell"
        named = "; ".join(parked.format(n) for n in range(3))
        assert sentence(wood.runtime, id) == (
            f"{STEP}{ASKED}5 deliveries are open: {named}; and 2 more"
        )

    def test_what_is_parked_comes_first_however_much_else_is_open(self, wood: Wood) -> None:
        wood.broken = {"last"}
        leaves = (node(f"leaf-{n}", context="beech") for n in range(110))
        id = wood.plant(node("trunk", *leaves, node("last", context="cedar")))
        wood.settle(["ash", "cedar", "saga.wood"])
        assert sentence(wood.runtime, id) == (
            f"{STEP}{ASKED}111 deliveries are open: cedar.branched is parked at cedar after "
            f"1 attempt: RuntimeError: last fell; "
            "beech.branched is with beech since TIME; and 109 more"
        )
        [parked] = shown(wood.runtime, id).parked
        assert parked.consumer == "cedar"

    def test_when_nothing_is_open_the_saga_is_about_to_be_told(self, wood: Wood) -> None:
        id = wood.plant(node("trunk"))
        wood.settle(["ash"])
        assert sentence(wood.runtime, id) == (
            f"{STEP}{ASKED}nothing is open any more; saga.settled is with saga.wood since TIME"
        )

    def test_what_nobody_counts_any_more_brings_nothing(self, wood: Wood) -> None:
        id = wood.plant(node("trunk"))
        wood.outside.execute("DELETE FROM inbox WHERE consumer = 'ash'")
        assert "nothing that is under way can bring it" in sentence(wood.runtime, id)


class TestOrder:
    WAITS = (
        "step drive: waits for everything below fleet.drive to be done, asked of fleet at TIME; "
    )

    def start(self, board: Board, truck: str, *places: int) -> UUID:
        with board.runtime.engine.begin() as connection:
            drive = Drive(truck=truck, places=places)
            id: UUID = board.runtime.start(connection, board.journey, drive)
        board.runtime.answer("fleet")
        return id

    def test_it_says_behind_which_of_its_own_it_waits(self, board: Board) -> None:
        board.broken = {("red", 1)}
        id = self.start(board, "red", 1, 2)
        board.answer()
        board.runtime.answer("saga.journey")
        assert sentence(board.runtime, id) == (
            f"{self.WAITS}2 deliveries are open: fleet.moved is parked at board after 1 attempt: "
            "RuntimeError: red is not found; fleet.moved waits for its turn at board behind "
            "fleet.moved ID, which is parked"
        )

    def test_it_says_behind_which_of_another_saga_it_waits_and_why(self, board: Board) -> None:
        board.broken = {("red", 1)}
        first = self.start(board, "red", 1)
        board.answer()
        id = self.start(board, "red", 2, 3)
        behind = (
            f"fleet.moved waits for its turn at board behind fleet.moved ID of {first}, "
            "which is parked after 1 attempt: RuntimeError: red is not found"
        ).replace(str(first), "ID")
        assert sentence(board.runtime, id) == (
            f"{self.WAITS}2 deliveries are open: {behind}; and 1 more"
        )
        detail = shown(board.runtime, id)
        [parked] = board.parked()
        assert str(parked) in str(detail.waits_for)
        for delivery in detail_document(detail)["deliveries"]:
            assert delivery["behind"]["message_id"] == str(parked)
            assert delivery["behind"]["of"] == str(first)
            assert delivery["behind"]["state"] == "parked"

    def test_it_says_behind_which_of_no_saga_it_waits(self, board: Board) -> None:
        board.publish("red", 1)
        id = self.start(board, "red", 2)
        assert sentence(board.runtime, id) == (
            f"{self.WAITS}1 delivery is open: "
            "fleet.moved waits for its turn at board behind fleet.moved ID"
        )

    def test_what_is_tried_again_at_the_head_of_its_key_says_so(self, board: Board) -> None:
        board.publish("red", 1)
        board.outside.execute("UPDATE inbox SET attempts = 2, last_error = 'OSError: no ink'")
        id = self.start(board, "red", 2)
        assert sentence(board.runtime, id).endswith(
            "behind fleet.moved ID, which failed 2 times: OSError: no ink"
        )

    def test_the_first_of_its_key_is_about_to_have_its_turn(self, board: Board) -> None:
        id = self.start(board, "red", 1)
        board.outside.execute(
            "UPDATE inbox SET due_at = NULL, wait_reason = 'ordering' WHERE consumer = 'board'"
        )
        assert sentence(board.runtime, id).endswith("fleet.moved is with board since TIME")

    def test_it_says_that_it_waits_for_past_events(self, board: Board) -> None:
        board.outside.execute("UPDATE subscription SET held = true WHERE consumer = 'board'")
        id = self.start(board, "red", 1)
        assert sentence(board.runtime, id).endswith(
            "1 delivery is open: fleet.moved is held at board until past events are handed over"
        )


def test_a_deadline_is_nothing_that_is_under_way(wood: Wood) -> None:
    """It is told to the saga later, and brings no outcome."""
    id = wood.plant(node("trunk"))
    wood.outside.execute(
        """WITH sent AS (
            INSERT INTO outbox (id, kind, category, payload, saga_id, saga, root_id, recipient,
                                awaits)
            SELECT gen_random_uuid(), 'saga.timed_out', 'timeout', '{}', saga_id, saga, root_id,
                   'saga.wood', '{}' FROM outbox WHERE kind = 'ash.plant'
            RETURNING id, saga_id)
        INSERT INTO inbox (message_id, consumer, saga_id, due_at, ring_at)
        SELECT id, 'saga.wood', saga_id, now() + interval '1 hour', now() FROM sent"""
    )
    assert sentence(wood.runtime, id).endswith(
        "1 delivery is open: ash.plant is with ash since TIME"
    )
    wood.outside.execute("DELETE FROM inbox WHERE consumer = 'ash'")
    assert "nothing that is under way can bring it" in sentence(wood.runtime, id)
    wood.outside.execute(
        "UPDATE inbox SET state = 'parked', outcome = 'failed', last_error = 'KeyError: 1' "
        "WHERE state = 'pending'"
    )
    assert sentence(wood.runtime, id).endswith(
        "; nothing is open any more; saga.timed_out is parked at saga.wood: KeyError: 1"
    )
