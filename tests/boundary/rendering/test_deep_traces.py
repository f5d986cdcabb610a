"""Traces as text: deep chains, branches, every state, and times."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from boundary.queries.time_format import duration
from boundary.rendering import render_trace, trace_json
from internals.store.delivery import DeliveryOutcome, DeliveryState
from internals.store.trace import Node, Trace, TracedAct, TracedDelivery
from saga.envelope import Category

pytestmark = pytest.mark.usefixtures("no_server_is_started")


def test_a_deep_chain_goes_straight_down_and_is_valid_json() -> None:
    found = a_chain(400)
    lines = str(render_trace(found)).splitlines()
    assert len(lines) == 401
    assert max(map(len, lines)) < 90
    assert lines[-1].lstrip().startswith("↳ ")
    node = json.loads(trace_json(found))["messages"][0]
    depth = 1
    while node["children"]:
        [node] = node["children"]
        depth += 1
    assert depth == 400
    assert trace_json(a_chain(5000)).count("]}") == 5001


def test_a_branch_in_the_deep_is_still_one() -> None:
    now = datetime.now(UTC)
    leaves = tuple(a_node(now, kind=f"leaf.number_{i}") for i in range(2))
    node = a_node(now, children=leaves)
    for _ in range(30):
        node = a_node(now, children=(node,))
    lines = str(render_trace(Trace((node,), at=now))).splitlines()
    assert [line.lstrip()[:3] for line in lines[-3:]] == ["↳ d", "├─ ", "└─ "]


def test_every_state_of_a_delivery_has_its_words() -> None:
    now = datetime.now(UTC)
    done = TracedDelivery("hotels", DeliveryState.DONE, 0, 0, None, now, now, 1)
    cases = {
        "hotels ✓ 0 ms": done,
        "hotels ✓ 0 ms after 1 attempt that failed": replace(done, attempts=1),
        "hotels ✓ 0 ms no effect: came late or twice": replace(
            done, outcome=DeliveryOutcome.STALE, last_error="stale"
        ),
        "hotels ✗ rejected: full 0 ms": replace(
            done, outcome=DeliveryOutcome.REJECTED, last_error="rejected: full"
        ),
        "hotels ✓ 0 ms (rung 2 more times)": replace(done, rings=2),
        "hotels ∅ revoked": (revoked := replace(done, state=DeliveryState.REVOKED)),
        "hotels ∅ revoked: its step was undone": replace(
            revoked, last_error="revoked: its step was undone"
        ),
        "hotels ∅ revoked backfill: no room; dropped: nobody came (rung 1 more time)": replace(
            revoked, last_error="no room;\ndropped: nobody came", backfill=True, rings=1
        ),
        "hotels ✗ parked: unexpected": replace(
            done, state=DeliveryState.PARKED, last_error="unexpected"
        ),
        "hotels ✓ 0 ms · parked retry by ann: a bed was bought": replace(
            done, acts=(TracedAct("parked retry", "ann", "a bed was\nbought"),)
        ),
        "hotels … pending for 0 ms": replace(done, state=DeliveryState.PENDING, done_at=None),
        "hotels … pending for 0 ms, next in 1 min": replace(
            done, state=DeliveryState.PENDING, done_at=None, due_at=now + timedelta(minutes=1)
        ),
    }
    for words, delivery in cases.items():
        node = a_node(now, deliveries=(delivery,))
        assert str(render_trace(Trace((node,), at=now))).endswith(f"└─ done.deed → {words}")
    nobody = str(render_trace(Trace((a_node(now),), at=now)))
    assert nobody.endswith("done.deed → nobody")
    cut = str(render_trace(Trace((a_node(now),), at=now, truncated=True)))
    assert cut.endswith("The rest is left out: it is too long to draw.")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"),
        (0.0004, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (3599.6, "1 h"),
        (7380, "2 h 3 min"),
        (86400 * 3 + 3600, "3 d 1 h"),
    ],
)
def test_durations_have_the_digits_that_matter(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def a_node(
    now: datetime,
    kind: str = "done.deed",
    children: tuple[Node, ...] = (),
    deliveries: tuple[TracedDelivery, ...] = (),
) -> Node:
    id = uuid4()
    return Node(id, kind, Category.EVENT, None, None, id, None, now, deliveries, children)


def a_chain(length: int) -> Trace:
    now = datetime.now(UTC)
    node = a_node(now)
    for _ in range(length - 1):
        node = a_node(now, children=(node,))
    return Trace((node,), at=now)
