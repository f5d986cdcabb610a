"""Random causal trees on real Postgres, against what must hold of any: settled, undone, counted.

Many trees go through the store at once, while workers crash around their commits, leases end,
doorbells come again, deliveries are shuffled, and a new context subscribes.

``SAGA_MODEL_EXAMPLES`` says how many examples of up to 40 trees there are; `make models` runs enough
for 10,000 trees.  Each run ends with the seed that it had, and ``SAGA_MODEL_SEED`` makes the same trees
again.  An example that does not come to an end fails, with its seed and what was still open.
"""

import os
import random
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, note, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from boundary.operations.consistency import differences
from internals.database.commit_points import watch
from internals.database.unit_of_work import joined
from tests.boundary.worlds.causal_trees import CONSUMERS, NAMES, Node, Wood, beside
from tests.conftest import TRIED
from tests.progress import Hung, coming_to_an_end

EXAMPLES = int(os.environ.get("SAGA_MODEL_EXAMPLES", "12"))
SEED = int(os.environ.get("SAGA_MODEL_SEED") or random.randrange(2**32))

WHY = "the model"

#: Seconds for one example; it takes some, or on a busy machine some ten.
PATIENCE = 150.0


class Crash(BaseException):
    """The worker is gone."""


#: What a node does: most grow; some refuse, and some fall until somebody mends them.
DOES = st.sampled_from(["grow"] * 12 + ["refuse", "fall"])

BARE = st.builds(
    lambda context, does: Node(name="", context=context, does=does), st.sampled_from(NAMES), DOES
)
NODES = st.recursive(
    BARE,
    lambda below: st.builds(
        lambda node, branches: node.model_copy(update={"branches": tuple(branches)}),
        BARE,
        st.lists(below, min_size=1, max_size=3),
    ),
    max_leaves=6,
)
TREES = st.lists(st.tuples(NODES, st.booleans()), min_size=20, max_size=40)


def named(node: Node, numbers: Iterator[int]) -> Node:
    """The tree with a name of its own for each node; the root is where the command goes."""
    name = f"n{next(numbers)}"
    branches = tuple(named(branch, numbers) for branch in node.branches)
    return node.model_copy(update={"name": name, "branches": branches})


def test_whatever_happens_each_tree_is_settled_or_undone(
    wood: Wood, request: Any, record_property: Any
) -> None:
    checked = beside_them = 0

    # The seed is of this wood too, so that no two woods have the same trees.
    @seeded(f"{SEED} {request.node.callspec.id}")
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(
        trees=TREES,
        seed=st.integers(min_value=0, max_value=2**32 - 1),
        drops=st.booleans(),
        crashes=st.sampled_from([0.0, 0.05, 0.2]),
    )
    def hold(trees: list[tuple[Node, bool]], seed: int, drops: bool, crashes: float) -> None:
        nonlocal checked, beside_them

        def tell() -> str:
            return f"SAGA_MODEL_SEED={SEED}, seed {seed}; {wood.still_open()}"

        with coming_to_an_end(PATIENCE, tell):
            beside_them += _hold(wood, trees, seed, drops=drops, crashes=crashes)
        checked += len(trees)

    try:
        hold()
    except Hung as hung:
        raise AssertionError(str(hung)) from None
    finally:
        tried = f"{checked:,} trees checked, seed {SEED} (again: SAGA_MODEL_SEED={SEED})"
        record_property(TRIED, tried)
    if checked >= 200:
        assert beside_them, "nobody who subscribed late was told anything, so this was not tried"


def _hold(
    wood: Wood, trees: list[tuple[Node, bool]], seed: int, *, drops: bool, crashes: float
) -> int:
    """Plant these trees, let happen what happens, and hold what became of them against the model.

    Returns how often the context that subscribed late had reacted.
    """
    # Not drawn step by step: how many steps there are depends on the servers too.
    rng = random.Random(seed)
    numbers = count()
    planted: dict[UUID, tuple[Node, bool]] = {}
    for tree, fell in trees:
        root = named(tree.model_copy(update={"context": "ash"}), numbers)
        planted[wood.plant(root, fell=fell)] = (root, fell)
    note(f"seed {seed}: {len(planted)} trees, crashes {crashes}, drops {drops}")
    falling = {n.name for root, _ in planted.values() for n in root.walk() if n.does == "fall"}
    wood.broken = set(falling)

    _drive(wood, rng, crashes)
    for _ in range(100):
        if not (parked := wood.parked()):
            break
        _operate(wood, parked, drops=drops)
        _drive(wood, rng, crashes)
    for id, (root, fell) in planted.items():
        _check(wood, id, root, fell=fell, fallen=falling if drops else set())
    with wood.runtime.engine.begin() as connection:
        unit, known = joined(connection), wood.runtime
        assert list(differences(unit, known._wiring.statements, known._wiring.sagas)) == []
    assert set(wood.open().values()) <= {0}
    late = sum(name.endswith(beside("")) for name in wood.ran())
    wood.leave()
    wood.forget()
    return late


def _drive(wood: Wood, rng: random.Random, crashes: float) -> None:
    """Let workers come and go until nothing is due; the last of them live."""

    def crash(*_: object) -> None:
        if rng.random() < crashes:
            raise Crash

    joins = rng.randrange(60)
    watch(crash)
    try:
        for turn in range(60):
            if rng.random() < 0.3:
                wood.shuffle()
            if rng.random() < 0.2:
                wood.lapse()
            try:
                if turn == joins:
                    wood.join()
                if not wood.runtime.answer(rng.choice(CONSUMERS), follow=rng.random() < 0.5):
                    continue
            except Crash:
                continue
    finally:
        watch(None)
    wood.settle()


def _operate(wood: Wood, parked: list[UUID], *, drops: bool) -> None:
    acts = wood.runtime._administration.acts
    with wood.runtime.engine.begin() as connection:
        if drops:
            acts.parked.drop(joined(connection), parked, actor="ann", reason=WHY)
        else:
            wood.broken = set()
            acts.parked.retry(joined(connection), parked, actor="ann", reason=WHY)


def _check(wood: Wood, id: UUID, root: Node, *, fell: bool, fallen: set[str]) -> None:
    nodes = {node.name: node for node in root.walk()}
    ran, ran_beside = _of(wood, "ran", id)
    undone, undone_beside = _of(wood, "undone", id)
    refused = _refusal_is_reached(root, fallen)
    assert len(ran) == len(set(ran)), "a handler's effect is there twice"
    assert len(undone) == len(set(undone)), "something is undone twice"
    told = {branch.name: branch for name in ran for branch in nodes[name].branches}
    assert set(ran_beside) <= {beside(n) for n, of in told.items() if of.context == "beech"}
    assert {nodes[name].does for name in ran} <= {"grow", "fall"}
    status = wood.status(id)
    if status == "completed":
        assert not fell, "the axe was not heard"
        assert not refused, "a no was not heard"
        assert set(ran) == set(_reached(root, fallen)), "it was over before all was done"
        assert undone == undone_beside == []
    else:
        assert status == "compensated"
        assert fell or refused, "nothing called for it"
        stands = {name for name in ran if nodes[name].context == "dogwood"}
        stands -= {root.name}
        # What acts outside may have done so before its worker died.
        outside = {name for name, of in told.items() if of.context == "elm"}
        assert set(undone) - outside == set(ran) - stands - outside, "what ran is undone, no more"
        assert outside & set(ran) <= outside & set(undone), "what acted outside is undone"
        assert sorted(undone_beside) == sorted(ran_beside), "who came late undoes it too"
        assert _stands(wood, id) == len(stands)
        places = {name: place for place, name in enumerate(undone)}
        late = _late(wood, id) if wood.apart is not None else _late(wood, id) & outside
        for node in root.walk():
            for branch in node.branches:
                if branch.name in places and node.name in places and branch.name not in late:
                    assert places[branch.name] < places[node.name], "a cause before its effect"


def _reached(node: Node, fallen: set[str]) -> Iterator[str]:
    """The nodes that run if nothing is given up; below a refusal, or a drop, nothing does."""
    if node.does == "refuse" or node.name in fallen:
        return
    yield node.name
    for branch in node.branches:
        yield from _reached(branch, fallen)


def _refusal_is_reached(node: Node, fallen: set[str]) -> bool:
    """Whether anybody says no, once all that is above it is done."""
    if node.does == "refuse":
        return True
    if node.name in fallen:
        return False
    return any(_refusal_is_reached(branch, fallen) for branch in node.branches)


def _of(wood: Wood, table: str, id: UUID) -> tuple[list[str], list[str]]:
    """The nodes that a table holds of a tree, and what fir wrote there."""
    names = wood.nodes(table, id)
    mark = beside("")
    return (
        [name for name in names if not name.endswith(mark)],
        [name for name in names if name.endswith(mark)],
    )


def _late(wood: Wood, id: UUID) -> set[str]:
    """The nodes of which home heard when it had begun to undo: they are undone when they come."""
    rows = wood.outside.execute(
        """SELECT o.payload -> 'node' ->> 'name' FROM outbox o JOIN inbox i ON i.message_id = o.id
           WHERE o.saga_id = %(id)s AND o.kind LIKE '%%.branched' AND i.done_at > (
               SELECT min(sent_at) FROM outbox WHERE saga_id = %(id)s AND kind = 'saga.undo')""",
        {"id": id},
    )
    return {name for (name,) in rows}


def _stands(wood: Wood, id: UUID) -> int:
    [(count_,)] = wood.outside.execute(
        "SELECT count(*) FROM outbox o JOIN inbox i ON i.message_id = o.id "
        "WHERE o.saga_id = %s AND o.kind = 'saga.undo' AND i.outcome = 'no_undo'",
        [id],
    ).fetchall()
    return int(count_)
