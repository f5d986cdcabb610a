"""Acts on real Postgres, where what is parked is not a step's own command but further down."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from boundary.operations.consistency import differences
from boundary.orchestration.operator_actions import Acted
from internals.database.unit_of_work import joined
from saga import ActRefused, Message
from saga.messages import Replayed, Skipped
from tests.boundary.worlds.failing_reactions import Booked, Lodge

WHY = "they are well again"
REPLAY, SKIP = Replayed(reason=WHY), Skipped(step="room", reason=WHY)


@pytest.fixture
def lodge(runtime: Any, outside: Any) -> Lodge:
    return Lodge(runtime, outside)


def act(lodge: Lodge, id: UUID, message: Message) -> Acted:
    with lodge.runtime.engine.begin() as connection:
        return lodge.runtime._administration.acts.act(joined(connection), id, message, actor="ann")


def on_parked(lodge: Lodge, method: str, ids: Sequence[UUID]) -> None:
    with lodge.runtime.engine.begin() as connection:
        getattr(lodge.runtime._administration.acts.parked, method)(
            joined(connection), ids, actor="bob", reason=WHY
        )


class TestReplay:
    def test_all_that_is_parked_below_a_step_is_delivered_again(self, lodge: Lodge) -> None:
        lodge.open("maids", "cooks")
        id = lodge.stay()
        assert lodge.status(id) == "stuck"
        ids = lodge.parked()
        lodge.open()
        assert set(act(lodge, id, REPLAY).retried) == set(ids.values())
        lodge.settle()
        assert sorted(lodge.done) == ["cooks", "maids"]
        assert lodge.status(id) == "completed"
        with lodge.runtime.engine.begin() as connection:
            unit, known = joined(connection), lodge.runtime
            assert list(differences(unit, known._wiring.statements, known._wiring.sagas)) == []

    def test_what_was_dropped_is_not_awaited_and_the_step_is_skipped(self, lodge: Lodge) -> None:
        lodge.open("maids")
        id = lodge.stay()
        on_parked(lodge, "drop", [lodge.parked()["maids"]])
        with pytest.raises(ActRefused, match=r"dropped.* skip its step"):
            act(lodge, id, REPLAY)
        assert lodge.status(id) == "stuck"
        act(lodge, id, SKIP)
        assert lodge.status(id) == "completed"

    def test_what_another_operator_has_delivered_again_is_awaited(self, lodge: Lodge) -> None:
        lodge.open("maids")
        id = lodge.stay()
        on_parked(lodge, "retry", [lodge.parked()["maids"]])
        for message in (REPLAY, SKIP):
            with pytest.raises(ActRefused, match="is not parked any more: it was retried"):
                act(lodge, id, message)
        lodge.open()
        lodge.settle()
        assert sorted(lodge.done) == ["cooks", "maids"]
        assert lodge.status(id) == "completed"

    def test_what_another_operator_left_parked_is_delivered_again(self, lodge: Lodge) -> None:
        lodge.open("maids", "cooks")
        id = lodge.stay()
        ids = lodge.parked()
        lodge.open("maids")
        on_parked(lodge, "retry", [ids["cooks"]])
        lodge.settle()
        assert lodge.status(id) == "stuck"
        lodge.open()
        act(lodge, id, REPLAY)
        lodge.settle()
        assert lodge.done == ["cooks", "maids"]
        assert lodge.status(id) == "completed"

    def test_what_was_delivered_again_and_brought_no_outcome_is_skipped(self, lodge: Lodge) -> None:
        lodge.open("maids", "cooks")
        id = lodge.stay()
        on_parked(lodge, "drop", [lodge.parked()["maids"]])
        on_parked(lodge, "retry", [lodge.parked()["cooks"]])
        lodge.open()
        with pytest.raises(ActRefused, match="is not parked any more: it was retried"):
            act(lodge, id, SKIP)
        lodge.settle()
        act(lodge, id, SKIP)
        assert lodge.status(id) == "completed"

    def test_an_outcome_that_was_dropped_at_the_saga_is_delivered_again(self, lodge: Lodge) -> None:
        lodge.open(misread=True)
        id = lodge.stay()
        assert lodge.status(id) == "stuck"
        (outcome,) = lodge.parked().values()
        on_parked(lodge, "drop", [outcome])
        lodge.open()
        assert act(lodge, id, REPLAY).retried == (outcome,)
        lodge.settle()
        assert lodge.status(id) == "completed"


class TestParked:
    @pytest.mark.parametrize("method", ["retry", "drop"])
    def test_one_that_is_not_parked_is_refused_though_another_is_parked_twice(
        self, lodge: Lodge, method: str
    ) -> None:
        lodge.open("maids", "cooks", cooks_see=Booked)
        lodge.stay()
        (twice,) = set(lodge.parked().values())
        (done,) = lodge.deliveries("lodge.book")
        with pytest.raises(ActRefused, match="1 of 2 deliveries are not parked"):
            on_parked(lodge, method, [twice, done["message_id"]])
        assert lodge.parked() == {"maids": twice, "cooks": twice}
        assert lodge.audit() == []

    def test_one_that_is_parked_twice_is_delivered_again_to_both(self, lodge: Lodge) -> None:
        lodge.open("maids", "cooks", cooks_see=Booked)
        lodge.stay()
        ids = set(lodge.parked().values())
        lodge.open(cooks_see=Booked)
        on_parked(lodge, "retry", list(ids))
        lodge.settle()
        assert sorted(lodge.done) == ["cooks", "maids"]
        assert len(lodge.audit()) == 1
