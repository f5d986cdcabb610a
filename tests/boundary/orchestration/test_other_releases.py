"""Sagas and messages of another release: its versions are known or waited for, its fields are kept."""

from typing import Any

import pytest
from pydantic import BaseModel, Field

from boundary.operations import show_saga
from boundary.operations.doctor.diagnosis import diagnose
from boundary.operations.doctor.finding import Verdict
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga import Event, PayloadError, Saga, Step
from tests.boundary.worlds.parallel_steps import (
    CONSUMER,
    MOVING,
    Call,
    Load,
    Loaded,
    Move,
    contexts,
    moving,
)


class TestUnknownVersion:
    def test_it_is_left_where_it_is_visibly_until_a_worker_knows_it(self, office: Any) -> None:
        new = office(moving(version=2), contexts=contexts())
        old = office(moving(version=1), contexts=contexts())
        (id,) = new.start(1, saga=moving(version=2))
        for _ in range(3):
            old.make_due()
            old.settle()
        assert old.saga(id)["status"] == "running"
        (row,) = old.deliveries()
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert row["last_error"] == "this worker does not know version 2 of moving"
        assert old.rows("SELECT 1 AS one FROM inbox WHERE due_at > now()")
        old.make_due()
        new.settle()
        assert new.saga(id)["status"] == "completed"

    def test_it_does_not_keep_known_ones_waiting(self, office: Any) -> None:
        new = office(moving(version=1), moving(version=2), contexts=contexts())
        old = office(moving(version=1), contexts=contexts())
        (unknown,) = new.start(1, saga=moving(version=2))
        (known,) = new.start(2, saga=moving(version=1))
        old.settle()
        assert old.saga(known)["status"] == "completed"
        assert old.saga(unknown)["status"] == "running"
        old.make_due()
        new.settle()
        assert new.saga(unknown)["status"] == "completed"

    def test_a_saga_that_no_worker_here_knows_has_an_inbox_of_its_own(self, office: Any) -> None:
        one = office(contexts=contexts())
        other = office(Saga(name="other", data=Move, steps=MOVING.steps), contexts=contexts())
        (id,) = one.start(1)
        other.settle()
        (row,) = one.deliveries()
        assert (row["state"], row["last_error"]) == ("pending", None)
        one.settle()
        assert one.saga(id)["status"] == "completed"


class Heavy(Event, kind="van.loaded"):
    """The outcome as another release has it, which cannot take every note."""

    n: int
    note: str = Field(default="", max_length=0)


class Older(BaseModel):
    """The data as a former release has it."""

    n: int = 0
    parts: tuple["OlderPart", ...] = ()


class OlderPart(BaseModel):
    number: int


class Newer(BaseModel):
    """The data as a newer release has it, of the same version."""

    n: int = 0
    by: str | None = None
    parts: tuple["NewerPart", ...] = ()


class NewerPart(BaseModel):
    number: int
    colour: str = ""


def loading(data: type[Any], until: type[Event] = Loaded, **options: Any) -> Saga[Any]:
    """Load, and then call."""
    return Saga(
        name="moving",
        data=data,
        steps=(
            Step("load", lambda move: Load(n=move.n), until=until, **options),
            Step("call", lambda move: Call(n=move.n)),
        ),
    )


class TestAnotherRelease:
    def test_an_outcome_that_cannot_be_read_waits_for_a_worker_that_can(self, office: Any) -> None:
        old = office(contexts=contexts())
        new = office(loading(Move, Heavy), contexts=contexts())
        (id,) = old.start(1)
        old.runtime.answer("van")
        for _ in range(3):
            new.runtime.answer(CONSUMER)
            (row,) = old.deliveries()
            assert (row["state"], row["attempts"]) == ("pending", 0)
            why = "cannot be read here: van.loaded: field note: String should have at most 0"
            assert row["last_error"].startswith(why)
            old.make_due()
        with new.runtime.engine.connect() as connection:
            detail = show_saga(SqlAlchemyUnitOfWork(connection), new.runtime.settings.db_schema, id)
        assert why in str(detail.waits_for)
        left = {f.check: f for f in diagnose(new.runtime, application=True)}["other releases"]
        assert left.verdict is Verdict.NOTE
        assert f"1 delivery is left for a worker that can, van.loaded at {CONSUMER}: {why}" in (
            left.found
        )
        old.rows("UPDATE outbox SET sent_at = now() - interval '1 hour' RETURNING id")
        left = {f.check: f for f in diagnose(new.runtime, application=True)}["other releases"]
        assert left.verdict is Verdict.WRONG
        old.settle()
        assert old.saga(id)["status"] == "completed"
        old.check_history()

    def test_so_it_does_where_sagas_consume_what_is_sent_to_them_at_once(self, office: Any) -> None:
        new = office(loading(Move, Heavy), contexts=contexts())
        (id,) = new.start(1, saga=loading(Move, Heavy))
        new.runtime.answer("van", follow=True)
        (row,) = new.deliveries()
        assert row["state"] == "pending"
        assert new.saga(id)["status"] == "running"

    def test_data_that_a_newer_release_added_is_never_lost(self, office: Any) -> None:
        def change(move: Older, outcome: Any) -> Older:
            return move.model_copy(update={"n": 7, "parts": (*move.parts, OlderPart(number=3))})

        definition = loading(Older, on_success=change)
        new, old = office(loading(Newer)), office(definition, contexts=contexts())
        parts = (NewerPart(number=1, colour="red"), NewerPart(number=2, colour="blue"))
        id = new.start_with(loading(Newer), Newer(n=1, by="Ada", parts=parts))
        old.settle()
        row = old.saga(id)
        assert row["status"] == "completed"
        assert row["data"] == {
            "n": 7,
            "by": "Ada",
            "parts": [
                {"number": 1, "colour": "red"},
                {"number": 2, "colour": "blue"},
                {"number": 3},
            ],
        }
        old.check_history()

    def test_what_would_be_lost_is_left_for_a_worker_that_knows_it(self, office: Any) -> None:
        def change(move: Older, outcome: Any) -> Older:
            # Whether the first one was dropped, or is the third one now, nobody can say.
            return move.model_copy(update={"parts": (*move.parts[1:], OlderPart(number=3))})

        new = office(loading(Newer), contexts=contexts())
        old = office(loading(Older, on_success=change), contexts=contexts())
        parts = (NewerPart(number=1, colour="red"), NewerPart(number=2, colour="blue"))
        id = new.start_with(loading(Newer), Newer(n=1, parts=parts))
        old.runtime.answer("van")
        old.runtime.answer(CONSUMER)
        (row,) = old.deliveries()
        assert row["state"] == "pending"
        old.make_due()
        new.settle()
        assert new.saga(id)["status"] == "completed"

    @pytest.mark.parametrize("at", ["before", "after"])
    def test_a_step_that_was_renamed_without_a_new_version(self, office: Any, at: str) -> None:
        renamed = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("fill", lambda move: Load(n=move.n), until=Loaded),
                Step("call", lambda move: Call(n=move.n)),
                Step("drive", lambda move: Call(n=move.n)),
            ),
        )
        old = office(contexts=contexts())
        new = office(renamed, contexts=contexts())
        (id,) = old.start(1)
        old.runtime.answer("van")
        if at == "after":
            old.runtime.answer(CONSUMER)
            old.runtime.answer("van")
            old.runtime.answer("phone")
        for _ in range(3):
            new.runtime.answer(CONSUMER)
            old.make_due()
        pending = old.rows("SELECT * FROM inbox WHERE state = 'pending'")
        assert {row["last_error"] for row in pending if row["consumer"] == CONSUMER} == {
            "version 1 of moving here has no step 'load', which the saga has begun; give the changed "
            "definition a new version"
        }
        assert not old.rows("SELECT 1 AS one FROM inbox WHERE state = 'parked'")
        with (
            new.runtime.engine.begin() as connection,
            pytest.raises(PayloadError, match="has no step 'load'"),
        ):
            new.runtime.cancel(connection, id, reason="never mind", actor="ada")
        found = {f.check: f for f in diagnose(new.runtime, application=True)}["versions"]
        assert found.verdict is Verdict.WRONG
        assert "version 1 of moving has no step 'load', which 1 unfinished saga" in found.found
        old.settle()
        assert old.saga(id)["status"] == "completed"
