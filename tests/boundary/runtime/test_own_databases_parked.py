"""A context with a database of its own: what is parked there, goes in order, or cannot be written."""

from contextlib import suppress
from typing import Any

import pytest
from psycopg.errors import LockNotAvailable

from internals import Work
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from internals.store.inbox import Inbox
from tests.boundary.worlds.own_database_app import Grind, Ground, Mill, Sown, act_nothing
from tests.boundary.worlds.own_database_faults import (
    COMMITS,
    GROUND,
    ONCE,
    SPILT,
    Gone,
    Once,
    fall,
    gone,
)


class TestParked:
    @pytest.fixture
    def parked(self, mill: Mill) -> Any:
        """A command that is parked, there and at home: its id and the saga's."""
        mill.acts = fall
        mill.open(retry=ONCE)
        [id] = mill.order(1)
        mill.settle()
        mill.acts = act_nothing
        return mill.at_home()["message_id"], id

    def test_it_is_parked_at_home_and_the_saga_is_stuck(self, mill: Mill, parked: Any) -> None:
        assert mill.at_home()["state"] == mill.at_the_mill()["state"] == "parked"
        assert mill.at_home()["last_error"] == "RuntimeError: the wheel is broken"
        assert mill.status(parked[1]) == "stuck"

    def test_the_parcel_that_parked_it_is_remembered_and_no_lease(
        self, mill: Mill, parked: Any
    ) -> None:
        [parcel] = mill.there("SELECT id FROM outbox WHERE kind = 'saga.parcel'")
        assert (mill.at_home()["parcel_id"], mill.at_home()["lease"]) == (parcel["id"], None)
        mill.act("retry", parked[0])
        assert mill.at_home()["parcel_id"] == parcel["id"]

    def test_retried_at_home_it_is_run_there_again(self, mill: Mill, parked: Any) -> None:
        mill.act("retry", parked[0])
        mill.settle()
        assert mill.status(parked[1]) == "completed"
        assert mill.milled() == [GROUND]
        mill.check()

    def test_again_and_again(self, mill: Mill, parked: Any) -> None:
        mill.acts = fall
        for _ in range(3):
            mill.act("retry", parked[0])
            mill.settle()
            assert mill.at_home()["state"] == mill.at_the_mill()["state"] == "parked"
        mill.acts = act_nothing
        mill.replay(parked[1])
        mill.settle()
        assert mill.status(parked[1]) == "completed"
        assert mill.milled() == [GROUND]

    def test_dropped_at_home_it_is_run_nowhere(self, mill: Mill, parked: Any) -> None:
        mill.act("drop", parked[0])
        mill.settle()
        assert mill.at_home()["state"] == "revoked"
        assert mill.milled() == []

    def test_a_parcel_that_comes_twice_does_not_park_it_again(self, mill: Mill) -> None:
        mill.acts = fall
        mill.open(retry=ONCE)
        [id] = mill.order(1)
        Once(Boundary.RETURNED, "before", gone)  # home knows, and the mill does not know it
        with pytest.raises(Gone):
            mill.settle()
        watch(None)
        assert mill.at_home()["state"] == "parked"
        mill.acts = act_nothing
        mill.act("retry", mill.at_home()["message_id"])
        # Offered before the parcel is done with, it is left; then the parcel is dropped.
        mill.settle()
        assert mill.at_home()["state"] == "pending"
        assert mill.at_home()["started_at"] is None
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        mill.check()

    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize(("boundary", "n"), COMMITS)
    def test_a_retry_that_is_cut_runs_it_once(
        self, mill: Mill, parked: Any, boundary: Boundary, n: int, moment: str
    ) -> None:
        mill.act("retry", parked[0])
        cut = Once(boundary, moment, gone, n)
        with pytest.raises(Gone):
            mill.settle("mill")
        assert cut.struck
        watch(None)
        mill.end_leases()
        mill.settle()
        assert mill.status(parked[1]) == "completed"
        assert mill.milled() == [GROUND]
        mill.check()

    def test_what_left_nothing_there_may_be_taken_back(self, mill: Mill, parked: Any) -> None:
        assert mill.at_home()["started_at"] is None

    def test_what_may_have_had_an_effect_outside_may_not(self, mill: Mill) -> None:
        mill.acts = fall
        mill.open(retry=ONCE, external=True)
        mill.order(1)
        mill.settle()
        assert mill.at_home()["state"] == "parked"
        assert mill.at_home()["started_at"] is not None


class TestOrder:
    def test_of_one_key_they_go_there_one_by_one(self, mill: Mill) -> None:
        mill.sow(*(Sown(field=field, n=n) for n in range(5) for field in ("north", "south")))
        mill.settle()
        for field in ("north", "south"):
            told = [n for what, n in mill.milled() if what == f"reckons with {field}"]
            assert told == [0, 1, 2, 3, 4]

    def test_one_that_is_parked_there_holds_up_its_own_key_only(self, mill: Mill) -> None:
        def choke(command: Grind, work: Work) -> None:
            if command.n == 1:
                raise RuntimeError("a stone")

        mill.acts = choke
        mill.sow(*(Sown(field="north", n=n) for n in range(4)), Sown(field="south", n=7))
        mill.settle()
        reckoned = [n for what, n in mill.milled() if what.startswith("reckons")]
        assert sorted(reckoned) == [0, 7]
        mill.acts = act_nothing
        mill.act(
            "retry",
            *(r["message_id"] for r in mill.here("SELECT * FROM inbox WHERE state = 'parked'")),
        )
        mill.settle()
        reckoned = [n for what, n in mill.milled() if what == "reckons with north"]
        assert reckoned == [0, 1, 2, 3]

    def test_what_is_published_there_comes_home_as_it_was_committed(self, mill: Mill) -> None:
        """Who began first may commit last."""

        def overtaken(command: Grind, work: Work) -> None:
            mill.acts = act_nothing
            mill.order(2)
            Once(Boundary.RETURN, "before", gone)
            with suppress(Gone):
                mill.another().answer("mill")
            watch(None)

        mill.acts = overtaken
        mill.order(1)
        mill.settle()
        assert self._told(mill) == [2, 1]

    def test_a_batch_comes_home_in_its_order(self, mill: Mill) -> None:
        mill.order(*range(40))
        mill.settle()
        times = mill.there(
            "SELECT i.due_at FROM inbox AS i JOIN outbox AS o ON o.id = i.message_id "
            "WHERE i.consumer = 'mill.parcels' ORDER BY o.seq"
        )
        assert [row["due_at"] for row in times] == sorted({row["due_at"] for row in times})
        assert self._told(mill) == [n for _, n in mill.milled()]

    def test_two_do_not_take_parcels_home_at_once(self, mill: Mill) -> None:
        seen: list[Any] = []

        def stay(*_: object) -> None:
            mill.order(2)
            mill.another().answer("mill")  # grinds it, and leaves its parcel to us
            seen.append((mill.milled(), self._told(mill)))

        Once(Boundary.RETURN, "before", stay)
        mill.order(1)
        mill.settle()
        assert seen == [([("ground", 1), ("ground", 2)], [])]
        assert self._told(mill) == [1, 2]

    def test_who_publishes_there_keeps_others_from_it_until_its_commit(self, mill: Mill) -> None:
        known = mill.runtime
        inbox = Inbox("mill", known.settings.db_schema, known._wiring.statements)
        kept: list[bool] = []

        def look(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) != (Boundary.HOP, "before"):
                return
            with mill.engine.connect() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")
                try:
                    inbox.take_turn(joined(other))
                except LockNotAvailable:
                    kept.append(True)
                else:
                    kept.append(False)

        mill.burnt = {1}
        mill.order(1)  # it is ground, which is an event, and spilt, which is none
        watch(look)
        mill.settle()
        assert mill.milled() == [GROUND, SPILT]
        assert kept.count(True) == 1

    def _told(self, mill: Mill) -> list[int]:
        """The events that came home, in the order in which they did."""
        found = mill.here("SELECT payload FROM outbox WHERE kind = 'mill.ground' ORDER BY seq")
        return [row["payload"]["n"] for row in found]


class TestPoison:
    def test_a_parcel_that_home_cannot_take_holds_up_no_other(self, mill: Mill) -> None:
        mill.alter(
            """CREATE FUNCTION choke() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF new.kind = 'mill.ground' AND new.payload ->> 'n' = '2' THEN
                       RAISE 'no room for two';
                   END IF;
                   RETURN new;
               END $$;
               CREATE TRIGGER choke BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION choke()"""
        )
        ids = mill.order(1, 2, 3)
        mill.settle()
        assert [mill.status(id) for id in ids] == ["completed", "running", "completed"]
        [left] = mill.there("SELECT * FROM inbox WHERE state = 'pending'")
        assert "no room for two" in left["last_error"]
        mill.alter("DROP TRIGGER choke ON outbox")
        mill.end_leases()
        mill.settle()
        assert mill.status(ids[1]) == "completed"
        assert sorted(mill.milled()) == [("ground", 1), ("ground", 2), ("ground", 3)]

    def test_one_that_needs_a_key_which_a_host_holds_keeps_no_other(
        self, mill: Mill, eventually: Any
    ) -> None:
        mill.runtime.subscribe()
        mill.alter(
            "INSERT INTO subscription (kind, consumer, ordered_by) "
            "VALUES ('mill.ground', 'ledger', 'n')"
        )
        with mill.runtime.engine.begin() as host:
            mill.runtime.publish(host, Ground(n=2, note="by hand"))
            ids = mill.order(1, 2, 3)

            def statuses() -> list[str]:
                mill.settle()
                return [mill.status(id) for id in ids]

            eventually(lambda: statuses() == ["completed", "running", "completed"], 30, "others")
            [left] = mill.there("SELECT * FROM inbox WHERE state = 'pending'")
            assert left["attempts"] == 0
            assert "another transaction holds an ordering key" in left["last_error"]
        mill.end_leases()
        mill.settle()
        assert mill.status(ids[1]) == "completed"
