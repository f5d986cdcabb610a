"""A worker lets sagas hear of their steps in the transaction of the handlers, and follows on."""

from collections.abc import Callable
from typing import Any

import pytest

from boundary.orchestration.orchestrator import Orchestrator
from internals.database.commit_points import watch
from internals.hop import hop
from saga import Saga
from tests.boundary.worlds.parallel_steps import CONSUMER, MOVING, Office, contexts, held

#: What is stored of a saga, but for ids and times.
TRACE = """
SELECT o.kind, o.category, o.sender, i.consumer, i.state, i.position, c.kind AS cause, r.kind AS root
FROM outbox o JOIN inbox i ON i.message_id = o.id
LEFT JOIN outbox c ON c.id = o.causation_id JOIN outbox r ON r.id = o.root_id
WHERE o.saga_id = %s ORDER BY o.kind, o.sender, i.consumer
"""


@pytest.fixture
def office(runtime: Any, outside: Any) -> Callable[..., Office]:
    def make(saga: Saga[Any] = MOVING, *, colocate: bool = True, **others: Any) -> Office:
        made = runtime([saga], contexts(**others), colocate=colocate)
        made._wiring.broker.ring = lambda _: frozenset()  # into the void: nobody else works here
        return Office(made, outside)

    return make


def work(office: Office, first: str = "van") -> None:
    """What a worker does on one doorbell."""
    office.runtime.answer(first, follow=True)


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_stored_is_the_same_either_way(office: Any, refused: bool) -> None:
    stored = []
    for colocate in (False, True):
        busy = office(colocate=colocate, refuse=lambda _: refused)
        (id,) = busy.start(1)
        for consumer in ("van", "phone", "van", "saga.moving", "van", "phone", "saga.moving") * 2:
            work(busy, consumer)
        assert busy.saga(id)["status"] == ("compensated" if refused else "completed")
        busy.check_history()
        rows = busy.rows(TRACE, id)
        for row in rows:
            if refused:  # who of the two branches comes first may differ
                row.pop("position")
        stored.append(rows)
    assert stored[0] == stored[1]


@pytest.mark.parametrize(("colocate", "state"), [(False, "pending"), (True, "done")])
def test_a_step_and_what_its_saga_makes_of_it_are_one_commit(
    office: Any, colocate: bool, state: str
) -> None:
    busy = office(colocate=colocate)
    busy.start(1)
    commits: list[str] = []
    busy.runtime._administration.subscribe_once()
    watch(lambda _, moment: commits.append(moment))
    try:
        hop_once(busy, "van")
    finally:
        watch(None)
    assert commits == ["before", "after"]
    assert [row["state"] for row in busy.deliveries(CONSUMER)] == [state]
    commands = {row["kind"] for row in busy.rows("SELECT kind FROM outbox")}
    assert ("phone.call" in commands) is colocate


def test_a_saga_that_cannot_be_moved_is_no_trouble_of_the_context(
    office: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = office()
    (id,) = busy.start(1)

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("the orchestrator is broken")

    monkeypatch.setattr(Orchestrator, "handle", fail)
    monkeypatch.setattr(Orchestrator, "fold", fail)
    work(busy)
    states = {row["kind"]: row["state"] for row in busy.deliveries("van")}
    assert states == {"van.load": "done"}
    assert [row["state"] for row in busy.deliveries(CONSUMER)] == ["pending"]
    monkeypatch.undo()
    busy.settle()
    assert busy.saga(id)["status"] == "completed"


def test_a_saga_that_another_transaction_holds_hears_of_it_later(office: Any) -> None:
    busy = office()
    ids = busy.start(1, 2)
    with held(busy, ids[0]):
        # To be rung, since something is left.
        assert CONSUMER in hop_once(busy, "van")
    assert [row["state"] for row in busy.deliveries(CONSUMER)] == ["pending", "done"]
    busy.settle()
    assert [busy.saga(id)["status"] for id in ids] == ["completed", "completed"]


def hop_once(office: Office, consumer: str) -> frozenset[str]:
    runtime = office.runtime
    runtime._administration.subscribe_once()
    return hop(
        runtime._wiring.database,
        runtime._wiring.consumers[consumer],
        2,
        runtime._worker_loop.colocated,
    ).woken


def test_a_worker_that_is_being_stopped_follows_no_further(office: Any) -> None:
    busy = office()
    (id,) = busy.start(1)
    rung: list[str] = []
    busy.runtime._wiring.broker.ring = lambda names: rung.extend(names) or frozenset()  # type: ignore[func-returns-value]
    busy.runtime._worker_loop.follow_no_further()
    work(busy)
    assert [row["state"] for row in busy.deliveries("van")] == ["done", "pending"]
    assert set(rung) == {"van", "phone"}
    busy.settle()
    assert busy.saga(id)["status"] == "completed"
