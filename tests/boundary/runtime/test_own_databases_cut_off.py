"""A context with a database of its own: whatever is cut off, and wherever, everything happens once."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from psycopg import OperationalError
from sqlalchemy import create_engine

from internals.database.commit_points import Boundary, watch
from saga.backoff import Backoff
from tests.boundary.worlds.own_database_app import Mill, bread
from tests.boundary.worlds.own_database_faults import COMMITS, GROUND, SPILT, Gone, Once, gone


def lost(*_: object) -> None:
    """The database seems to fail."""
    raise OperationalError("server closed the connection unexpectedly")


class TestCut:
    @pytest.mark.parametrize("way", [gone, lost])
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(("boundary", "n"), COMMITS)
    def test_whatever_is_cut_everything_happens_once(
        self, mill: Mill, boundary: Boundary, n: int, moment: str, way: Callable[..., None]
    ) -> None:
        [id] = mill.order(1)
        cut = Once(boundary, moment, way, n)
        with suppress(Gone, OperationalError):
            mill.settle("mill")
        assert cut.struck
        watch(None)
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.baked() == [1]
        [told] = mill.here("SELECT count(*) AS n FROM outbox WHERE kind = 'mill.ground'")
        assert told["n"] == 1
        mill.check()

    def test_what_was_handled_there_meanwhile_is_not_handled_again(self, mill: Mill) -> None:
        [id] = mill.order(1)
        for boundary in (Boundary.FORWARDED, Boundary.RETURN):
            Once(boundary, "before", gone)
            with pytest.raises(Gone):
                mill.settle("mill")
            watch(None)
        assert mill.milled() == [GROUND]
        assert mill.at_home()["wait_reason"] == "forwarding"
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        mill.check()

    @pytest.mark.parametrize("way", [gone, lost])
    def test_what_may_have_arrived_is_not_taken_for_unstarted(
        self, mill: Mill, way: Callable[..., None]
    ) -> None:
        mill.open(saga=bread(timeout=timedelta(hours=1)))
        [id] = mill.order(1)

        def cut(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.FORWARD, "after"):
                way()  # it is there, and who forwarded it does not know
            if (boundary, moment) == (Boundary.FORWARDED, "after"):
                gone()  # home was told of the error, and then the worker died

        watch(cut)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.pass_deadline()
        assert mill.at_home()["state"] == "pending"
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "compensated"
        # In doubt it was undone; it had not begun there, and is not begun any more.
        assert mill.milled() == [SPILT]
        mill.check()


class TestAway:
    """The mill's database, or home's, is down."""

    @pytest.fixture
    def away(self, mill: Mill, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Open the mill with a database that nobody listens for."""
        # Longer than any of these tests: it is tried once.
        monkeypatch.setattr("internals.database.circuit_breaker._BACKOFF", Backoff(60.0, 60.0))

        def open(**options: Any) -> None:
            nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
            mill.open(databases={"mills": nowhere}, **options)

        return open

    def test_what_is_to_go_there_waits_and_the_rest_goes_on(
        self, mill: Mill, away: Callable[..., None]
    ) -> None:
        away()
        [id] = mill.order(1)
        with pytest.raises(Exception, match="connection"):
            mill.runtime.answer("mill")
        row = mill.at_home()
        assert (row["state"], row["started_at"], row["lease"]) == ("pending", None, None)
        assert "not forwarded to its own database yet" in row["last_error"]
        mill.open()
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.at_home()["last_error"] is None

    def test_it_is_left_alone_for_a_while_then(self, mill: Mill, away: Callable[..., None]) -> None:
        away()
        mill.order(1)
        with pytest.raises(Exception, match="connection"):
            mill.runtime.answer("mill")
        mill.end_leases()
        assert mill.runtime.answer("mill") == 0
        assert mill.at_home()["wait_reason"] is None

    def test_what_comes_then_says_why_it_waits(self, mill: Mill, away: Callable[..., None]) -> None:
        """Whoever found out was not on the way there with it."""
        away()
        mill.order(1)
        with pytest.raises(Exception, match="connection"):
            mill.runtime.answer("mill")
        mill.order(2)
        assert mill.runtime.answer("mill") == 0
        found = mill.here("SELECT last_error FROM inbox WHERE consumer = 'mill'")
        assert [row["last_error"].partition(":")[0] for row in found] == [
            "not forwarded to its own database yet"
        ] * 2

    def test_a_command_that_could_not_go_there_is_taken_back_at_its_deadline(
        self, mill: Mill, away: Callable[..., None]
    ) -> None:
        away(saga=bread(timeout=timedelta(hours=1)))
        [id] = mill.order(1)
        with pytest.raises(Exception, match="connection"):
            mill.runtime.answer("mill")
        mill.pass_deadline()
        assert mill.at_home()["state"] == "revoked"
        assert mill.status(id) == "compensated"

    def test_while_home_is_down_the_mill_goes_on_with_what_it_has(
        self, mill: Mill, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [id] = mill.order(1)
        Once(Boundary.HOP, "before", gone, 2)  # forwarded, and not handled yet
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        with monkeypatch.context() as patch:
            patch.setattr(type(mill.runtime._wiring.database), "open", _refuse(mill))
            with pytest.raises(OperationalError, match="down"):
                mill.runtime.answer("mill")
        assert mill.milled() == [GROUND]
        assert mill.at_home()["wait_reason"] == "forwarded"
        assert mill.at_the_mill()["state"] == "done"
        mill.open()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]


def _refuse(mill: Mill) -> Callable[..., Any]:
    home, usual = mill.runtime._wiring.database, type(mill.runtime._wiring.database).open

    def open(self: Any) -> Any:
        if self is home:
            raise OperationalError("home is down")
        return usual(self)

    return open
