"""Steps that wait until everything below them is done, on real Postgres."""

from typing import Any

import pytest

from boundary.operations.consistency import differences
from internals.database.unit_of_work import joined
from internals.store.message_columns import SELECTED, from_row
from internals.store.outbox import Outbox
from saga.messages import Skipped
from tests.boundary.worlds.causal_trees import Node, Wood

WHY = "the gale is over"

_SENT = f"SELECT {SELECTED} FROM outbox AS o WHERE o.kind = %(kind)s"


def node(name: str, *branches: Node, context: str = "ash", does: str = "grow") -> Node:
    return Node(name=name, context=context, does=does, branches=branches)


DEEP = node(
    "trunk",
    node("limb", node("twig", node("leaf", context="dogwood"), context="cedar"), context="beech"),
    node("bough", context="cedar"),
)


def test_the_step_is_over_when_all_below_it_is_done_at_any_depth(wood: Wood) -> None:
    id = wood.plant(DEEP)
    for names in (["ash"], ["beech"], ["cedar"], ["saga.wood"]):
        wood.settle(names)
        assert wood.status(id) == "running"
    wood.settle()
    assert wood.status(id) == "completed"
    assert sorted(wood.ran()) == ["bough", "leaf", "limb", "trunk", "twig"]
    assert set(wood.open().values()) == {0}
    with wood.runtime.engine.begin() as connection:
        unit, known = joined(connection), wood.runtime
        assert list(differences(unit, known._wiring.statements, known._wiring.sagas)) == []


def test_a_command_without_reactions_is_over_with_its_handler(wood: Wood) -> None:
    id = wood.plant(node("trunk"))
    wood.settle()
    assert wood.status(id) == "completed"


def test_it_is_told_once(wood: Wood) -> None:
    wood.plant(DEEP)
    wood.settle()
    [(told,)] = wood.outside.execute(
        "SELECT count(*) FROM outbox WHERE kind = 'saga.settled'"
    ).fetchall()
    assert told == 1


def test_a_message_that_is_sent_again_is_not_counted_again(wood: Wood) -> None:
    id = wood.plant(DEEP)
    wood.settle(["ash"])
    before = wood.open()
    with wood.runtime.engine.begin() as connection:
        unit, known = joined(connection), wood.runtime
        rows = unit.run(_SENT, {"kind": "beech.branched"})
        again = [from_row(row) for row in rows]
        assert len(again) == 1
        Outbox(known._wiring.statements, grace=1.0).send(unit, again)
    assert wood.open() == before
    wood.settle()
    assert wood.status(id) == "completed"


def test_a_subscriber_that_came_later_is_waited_for(wood: Wood) -> None:
    wood.runtime._administration.subscribe_once()
    wood.outside.execute("DELETE FROM subscription WHERE consumer = 'cedar'")
    id = wood.plant(DEEP)
    wood.settle(["ash"])
    wood.outside.execute("INSERT INTO subscription VALUES ('cedar.branched', 'cedar')")
    wood.settle(["beech", "ash", "saga.wood"])
    assert wood.status(id) == "running"
    wood.settle()
    assert wood.status(id) == "completed"
    assert wood.ran() == ["trunk", "limb", "twig", "leaf"]  # the bough went to nobody


def test_what_is_parked_below_keeps_it_waiting_until_it_is_retried(wood: Wood) -> None:
    wood.broken = {"twig"}
    id = wood.plant(DEEP)
    wood.settle()
    assert wood.status(id) == "stuck"
    wood.broken = set()
    with wood.runtime.engine.begin() as connection:
        wood.runtime._administration.acts.parked.retry(
            joined(connection), wood.parked(), actor="a", reason=WHY
        )
    wood.settle()
    assert wood.status(id) == "completed"
    assert "leaf" in wood.ran()


def test_what_is_dropped_is_not_waited_for(wood: Wood) -> None:
    wood.broken = {"twig"}
    id = wood.plant(DEEP)
    wood.settle()
    with wood.runtime.engine.begin() as connection:
        wood.runtime._administration.acts.parked.drop(
            joined(connection), wood.parked(), actor="a", reason=WHY
        )
    wood.settle()
    assert wood.status(id) == "completed"
    assert sorted(wood.ran()) == ["bough", "limb", "trunk"]


def test_a_skipped_step_is_not_waited_for(wood: Wood) -> None:
    wood.broken = {"twig"}
    id = wood.plant(DEEP)
    wood.settle()
    with wood.runtime.engine.begin() as connection:
        skip = Skipped(step="plant", reason=WHY)
        wood.runtime._administration.acts.act(joined(connection), id, skip, actor="a")
    wood.settle()
    assert wood.status(id) == "completed"
    assert set(wood.open().values()) == {0}


def test_the_commands_own_no_is_a_no(wood: Wood) -> None:
    id = wood.plant(node("trunk", does="refuse"))
    wood.settle()
    assert wood.status(id) == "compensated"


@pytest.mark.parametrize(("refusing", "other"), [("beech", "cedar"), ("cedar", "beech")])
def test_a_no_from_further_down_is_not_overtaken_by_all_being_settled(
    wood: Wood, refusing: str, other: str
) -> None:
    no, slow = node("no", context=refusing, does="refuse"), node("slow", context=other)
    id = wood.plant(node("trunk", no, slow))
    for name in ("ash", refusing, other):
        wood.settle([name])
    wood.outside.execute(
        "UPDATE inbox SET due_at = due_at - interval '1 minute' FROM outbox "
        "WHERE id = message_id AND kind = 'saga.settled'"
    )
    wood.settle()
    assert wood.status(id) == "compensated"
    assert wood.undone() == ["slow", "trunk"]


def test_what_the_saga_itself_was_to_consume_is_not_counted(wood: Wood) -> None:
    id = wood.plant(DEEP)
    wood.settle(["ash"])
    before = wood.open()
    wood.outside.execute(
        """WITH sent AS (
            INSERT INTO outbox (id, kind, category, payload, saga_id, saga, root_id, recipient,
                                awaits)
            SELECT gen_random_uuid(), 'saga.faulted', 'reply', '{}', saga_id, saga, root_id,
                   'saga.wood', awaits FROM outbox WHERE kind = 'ash.plant'
            RETURNING id, saga_id)
        INSERT INTO inbox (message_id, consumer, saga_id, state, outcome, due_at, ring_at)
        SELECT id, 'saga.wood', saga_id, 'parked', 'failed', now(), now() FROM sent"""
    )
    with wood.runtime.engine.begin() as connection:
        wood.runtime._administration.acts.parked.drop(
            joined(connection), wood.parked(), actor="a", reason=WHY
        )
    assert wood.open() == before
    wood.settle()
    assert wood.status(id) == "completed"


class TestUndo:
    def test_a_no_below_an_undo_is_parked_and_the_saga_stuck_until_it_is_dealt_with(
        self, wood: Wood
    ) -> None:
        trunk = node("trunk").model_copy(update={"asks": True})
        id = wood.plant(trunk, fell=True)
        wood.settle()
        assert wood.status(id) == "stuck"
        [(error,)] = wood.outside.execute(
            "SELECT last_error FROM inbox WHERE state = 'parked'"
        ).fetchall()
        assert error == "rejected below an undo: no refuses"
        with wood.runtime.engine.begin() as connection:
            wood.runtime._administration.acts.parked.drop(
                joined(connection), wood.parked(), actor="a", reason=WHY
            )
        wood.settle()
        assert wood.status(id) == "compensated"

    def test_it_does_not_wait_for_a_backfill_of_the_context(self, wood: Wood) -> None:
        id = wood.plant(node("trunk", node("limb", context="beech")), fell=True)
        wood.settle(["ash", "beech"])
        wood.outside.execute("UPDATE subscription SET held = true WHERE consumer = 'beech'")
        wood.settle()
        assert wood.status(id) == "compensated"
        assert wood.undone() == ["limb", "trunk"]

    def test_the_last_to_be_done_is_undone_first(self, wood: Wood) -> None:
        id = wood.plant(DEEP, fell=True)
        wood.settle()
        assert wood.status(id) == "compensated"
        ran = [name for name in wood.ran() if name != "leaf"]
        assert wood.undone() == ran[::-1]

    def test_what_has_no_undo_stands_and_says_why(self, wood: Wood) -> None:
        wood.plant(DEEP, fell=True)
        wood.settle()
        told = wood.outside.execute(
            "SELECT i.consumer, i.last_error FROM inbox i JOIN outbox o ON o.id = i.message_id "
            "WHERE o.kind = 'saga.undo' AND i.outcome = 'no_undo'"
        ).fetchall()
        assert told == [("dogwood", "stands: it is written in stone")]

    def test_a_handler_that_never_ran_is_not_undone(self, wood: Wood) -> None:
        id = wood.plant(node("trunk", node("limb", context="beech"), node("no", does="refuse")))
        wood.settle(["ash", "saga.wood"])
        assert wood.status(id) == "compensated"
        wood.settle()
        assert wood.ran() == ["trunk"] == wood.undone()

    def test_a_reaction_that_comes_late_is_undone_when_it_comes(
        self, wood: Wood, runtime: Any
    ) -> None:
        id = wood.plant(
            node(
                "trunk",
                node("limb", node("twig", context="cedar"), context="beech"),
                node("no", does="refuse"),
            )
        )
        wood.settle(["ash"])
        statuses = []

        def turn_back(reaction: Node) -> None:
            if reaction.name == "limb":  # while it is handled, its delivery is locked
                wood.settle(["saga.wood", "ash"])
                statuses.append(wood.status(id))

        wood.seen = turn_back
        wood.settle(["beech"])
        assert statuses == ["compensating"]
        wood.settle()
        assert wood.status(id) == "compensated"
        assert wood.ran() == ["trunk", "limb"]
        assert sorted(wood.undone()) == ["limb", "trunk"]

    def test_an_undo_that_fails_leaves_it_stuck_until_it_is_mended(self, wood: Wood) -> None:
        wood.stubborn = {"twig"}
        id = wood.plant(DEEP, fell=True)
        wood.settle()
        assert wood.status(id) == "stuck"
        assert "trunk" not in wood.undone()
        wood.stubborn = set()
        with wood.runtime.engine.begin() as connection:
            wood.runtime._administration.acts.parked.retry(
                joined(connection), wood.parked(), actor="a", reason=WHY
            )
        wood.settle()
        assert wood.status(id) == "compensated"
        assert wood.undone()[-1] == "trunk"

    def test_an_undo_that_is_dropped_lets_the_others_go_on(self, wood: Wood) -> None:
        wood.stubborn = {"twig"}
        id = wood.plant(DEEP, fell=True)
        wood.settle()
        with wood.runtime.engine.begin() as connection:
            wood.runtime._administration.acts.parked.drop(
                joined(connection), wood.parked(), actor="a", reason=WHY
            )
        wood.settle()
        assert wood.status(id) == "compensated"
        assert sorted(wood.undone()) == ["bough", "limb", "trunk"]

    def test_a_no_from_further_down_undoes_what_was_done(self, wood: Wood) -> None:
        id = wood.plant(node("trunk", node("limb", node("no", does="refuse"), context="beech")))
        wood.settle()
        assert wood.status(id) == "compensated"
        assert wood.undone() == ["limb", "trunk"]
