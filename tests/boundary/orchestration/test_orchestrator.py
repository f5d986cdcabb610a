"""The orchestrator on real Postgres: nothing is discarded, and one saga's trouble is its own."""

import random
from typing import Any
from uuid import uuid4

import pytest

from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import hop
from saga import Done, Refused, Started
from tests.boundary.worlds.parallel_steps import (
    CONSUMER,
    Load,
    Loaded,
    Office,
    Unload,
    contexts,
    reply,
)


class TestFlow:
    def test_a_saga_goes_through_its_steps(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.settle()
        row = busy.saga(id)
        assert (row["status"], row["direction"]) == ("completed", "forward")
        assert row["data"] == {"n": 1, "note": "loaded 1"}
        assert row["finished_at"] is not None
        assert list(row["steps"]) == ["load", "call", "drive"]
        busy.check_history()

    def test_a_rejection_undoes_what_was_done(self, office: Any) -> None:
        busy = office(contexts=contexts(refuse=lambda n: n == 2))
        one, two = busy.start(1, 2)
        busy.settle()
        assert busy.saga(one)["status"] == "completed"
        row = busy.saga(two)
        assert row["status"] == "compensated"
        assert row["reason"] == "step drive: the road is closed"
        assert row["steps"]["load"]["phase"] == "compensated"
        assert len(busy.rows("SELECT 1 AS one FROM outbox WHERE kind = %s", Unload.kind)) == 1
        busy.check_history()

    def test_two_outcomes_in_one_batch_are_folded_one_after_the_other(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.runtime.answer("van")
        busy.runtime.answer(CONSUMER)
        busy.runtime.answer("van")
        busy.runtime.answer("phone")
        assert busy.runtime.answer(CONSUMER) == 2
        assert busy.saga(id)["status"] == "completed"
        positions = [row["position"] for row in busy.deliveries()]
        assert sorted(positions) == [2, 3, 4]
        busy.check_history()

    def test_a_batch_costs_as_many_statements_as_one_message(
        self, busy: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements: list[str] = []
        run = SqlAlchemyUnitOfWork.run

        def counted(self: Any, statement: str, parameters: Any) -> Any:
            statements.append(statement)
            return run(self, statement, parameters)

        def cost(*numbers: int) -> int:
            busy.start(*numbers)
            busy.runtime.answer("van")
            with monkeypatch.context() as patched:
                patched.setattr(SqlAlchemyUnitOfWork, "run", counted)
                hop(busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER])
            spent = len(statements)
            statements.clear()
            return spent

        assert cost(1) == cost(*range(2, 40))

    def test_a_repeated_outcome_is_recorded_and_has_no_effect(self, busy: Office) -> None:
        (id,) = busy.start(1)
        busy.settle()
        before = busy.saga(id)
        repeat = reply(id, Loaded(n=1, note="again"), root=busy.command_of(id, Load.kind))
        busy.send(repeat)
        busy.settle()
        row = busy.delivery(repeat)
        assert (row["state"], row["last_error"]) == ("done", "stale")
        after = busy.saga(id)
        assert {name for name in before if before[name] != after[name]} == {
            "consumed",
            "updated_at",
        }
        busy.check_history()


class TestNotItsOwn:
    def test_what_nothing_it_sent_can_have_caused_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        forged = reply(id, Done(), root=uuid4())
        busy.send(forged)
        busy.settle()
        row = busy.delivery(forged)
        assert (row["state"], row["position"]) == ("parked", None)
        assert row["last_error"] == f"unexpected: nothing that saga {id} sent leads to it"
        assert busy.saga(id)["status"] == "completed"
        busy.check_history()

    def test_an_outcome_of_the_wrong_kind_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        wrong = reply(id, Done(), root=busy.command_of(id, Load.kind))
        busy.send(wrong)
        assert busy.runtime.answer(CONSUMER) == 1
        assert busy.delivery(wrong)["state"] == "parked"
        assert busy.saga(id)["status"] == "running"

    def test_what_belongs_to_no_saga_at_all_is_parked(self, busy: Office) -> None:
        (id,) = busy.start(1)
        nobody = uuid4()
        orphan = reply(nobody, Done(), root=uuid4())
        busy.send(orphan)
        busy.settle()
        row = busy.delivery(orphan)
        assert (row["state"], row["last_error"]) == ("parked", f"saga {nobody} does not exist")
        assert busy.saga(id)["status"] == "completed"

    def test_a_second_start_changes_nothing(self, busy: Office) -> None:
        (id,) = busy.start(1)
        again = reply(id, Started(), root=uuid4())
        busy.send(again)
        busy.settle()
        assert busy.delivery(again)["last_error"] == "stale"
        assert busy.saga(id)["data"]["n"] == 1
        assert busy.saga(id)["status"] == "completed"


def test_after_a_random_run_with_duplicates_the_history_is_the_state(office: Any) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - to run it again
    dice = random.Random(seed)
    refused = {n for n in range(40) if dice.random() < 0.3}
    busy: Office = office(contexts=contexts(refuse=lambda n: n in refused))
    ids = busy.start(*range(40))
    consumers = list(busy.runtime._wiring.consumers)
    for _ in range(60):
        hop(
            busy.runtime._wiring.database, busy.runtime._wiring.consumers[dice.choice(consumers)], 7
        )
        sent = busy.rows(
            "SELECT saga_id, root_id, causation_id, kind, payload FROM outbox "
            "WHERE recipient IS NOT DISTINCT FROM 'saga.moving' OR kind = 'van.loaded' "
            "ORDER BY seq"
        )
        for row in dice.sample(sent, min(3, len(sent))):
            kind = {m.kind: m for m in (Done, Loaded, Refused)}.get(row["kind"])
            if kind is None:
                continue
            message = kind(**row["payload"])
            busy.send(
                reply(row["saga_id"], message, root=row["root_id"], cause=row["causation_id"])
            )
    busy.settle()
    for n, id in enumerate(ids):
        assert busy.saga(id)["status"] == ("compensated" if n in refused else "completed")
    notes = busy.rows("SELECT last_error FROM inbox WHERE last_error = 'stale'")
    assert notes  # duplicates did arrive
    assert not busy.rows("SELECT 1 AS one FROM inbox WHERE state NOT IN ('done')")
    busy.check_history()
