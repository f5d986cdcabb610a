"""A context that has a database of its own: everything happens once, and home knows of all of it."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from dramatiq.middleware import Interrupt
from mill import Grind, Ground, Mill, Sown, act_nothing, bread
from psycopg import OperationalError
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine

from boundary import Runtime
from boundary.operations.doctor import Verdict, diagnose
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from internals.store.inbox import Inbox
from saga import DefinitionError, NoTransaction, Rejected, Retry

GROUND, SPILT = ("ground", 1), ("spilt", 1)

IN_TIME = bread(timeout=timedelta(hours=1))
HOURLY = Retry(attempts=9, backoff=timedelta(hours=1))


class Gone(Interrupt):
    """The worker is gone: no `except Exception` sees it."""


def lost(*_: object) -> None:
    """The database seems to fail."""
    raise OperationalError("server closed the connection unexpectedly")


def gone(*_: object) -> None:
    raise Gone


def fall(command: Grind, work: Work) -> None:
    raise RuntimeError("the wheel is broken")


class Once:
    """Calls something the n-th time that a boundary is passed at this moment."""

    def __init__(self, boundary: Boundary, moment: str, call: Callable[[], None], n: int = 1):
        self._at = (boundary, moment)
        self._call = call
        self._left = n
        watch(self)

    @property
    def struck(self) -> bool:
        return self._left <= 0

    def __call__(self, boundary: Boundary, moment: str) -> None:
        if (boundary, moment) == self._at:
            self._left -= 1
            if not self._left:
                self._call()


class TestBothWays:
    def test_a_command_goes_there_and_what_came_of_it_comes_home(self, mill: Mill) -> None:
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.baked() == [1]
        assert mill.at_home()["state"] == mill.at_the_mill()["state"] == "done"
        assert mill.here("SELECT data FROM saga")[0]["data"]["note"] == "fine ½"
        mill.check()

    def test_a_doorbell_is_all_that_it_takes(self, mill: Mill) -> None:
        [id] = mill.order(1)
        assert mill.runtime.answer("mill", follow=True) == 2  # and the oven's, in this thread
        assert mill.status(id) == "completed"

    def test_a_no_comes_home_and_leaves_nothing_there(self, mill: Mill) -> None:
        def refuse(command: Grind, work: Work) -> None:
            raise Rejected("no grain")

        mill.acts = refuse
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "compensated"
        assert mill.milled() == []
        assert mill.at_home()["last_error"] == "rejected: no grain"

    def test_it_is_compensated_there(self, mill: Mill) -> None:
        mill.burnt = {1}
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "compensated"
        assert mill.milled() == [GROUND, SPILT]
        mill.check()

    def test_two_contexts_of_one_database_hear_of_one_event(self, mill: Mill) -> None:
        mill.sow(Sown(field="north", n=1))
        mill.settle()
        assert sorted(mill.milled()) == [("hopes for north", 1), ("reckons with north", 1)]
        assert len(mill.there("SELECT * FROM outbox WHERE kind = 'farm.sown'")) == 1

    def test_a_batch_is_as_one(self, mill: Mill) -> None:
        ids = mill.order(*range(150))
        mill.settle()
        assert {mill.status(id) for id in ids} == {"completed"}
        assert sorted(n for _, n in mill.milled()) == list(range(150))
        mill.check()

    def test_what_fails_is_tried_again_there(self, mill: Mill) -> None:
        mill.acts = fall
        mill.open(retry=Retry(attempts=3, backoff=timedelta(hours=1)))
        [id] = mill.order(1)
        mill.settle()
        assert mill.at_the_mill()["attempts"] == 1
        row = mill.at_home()
        assert (row["state"], row["wait_reason"]) == ("pending", "forwarded")
        assert (row["attempts"], row["last_error"]) == (1, "RuntimeError: the wheel is broken")
        mill.acts = act_nothing
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.at_home()["attempts"] == 1
        assert mill.milled() == [GROUND]

    def test_a_handler_that_calls_out_is_leased_there(self, mill: Mill) -> None:
        keys: list[str] = []

        def call(command: Grind, work: Work) -> None:
            keys.append(work.idempotency_key)
            assert mill.at_the_mill()["lease"] is not None
            if len(keys) == 1:
                raise Gone

        mill.acts = call
        mill.open(external=True)
        [id] = mill.order(1)
        with pytest.raises(Gone):
            mill.settle()
        mill.end_leases()
        mill.settle()
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]

    def test_a_call_there_that_takes_longer_than_its_lease_is_made_once(self, mill: Mill) -> None:
        calls: list[Any] = []

        def call(command: Grind, work: Work) -> None:
            first = mill.at_the_mill()["due_at"]
            calls.append(first)
            while mill.there("SELECT clock_timestamp() <= %s AS leased", first)[0]["leased"]:
                time.sleep(0.01)
            mill.another().answer("mill")

        mill.acts = call
        mill.open(external=True, lease=timedelta(seconds=1))
        [id] = mill.order(1)
        mill.settle()
        assert len(calls) == 1
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.at_home()["last_error"].startswith("took longer than its lease")


class TestGivenUp:
    """What the saga gave up while it is in the other database is not started again there."""

    @pytest.mark.parametrize("retry", [HOURLY, Retry(attempts=1)], ids=["later", "never again"])
    @pytest.mark.parametrize("external", [False, True])
    def test_a_run_that_is_under_way_there_and_fails_is_the_last(
        self, mill: Mill, external: bool, retry: Retry
    ) -> None:
        runs: list[int] = []

        def grind(command: Grind, work: Work) -> None:
            runs.append(command.n)
            mill.pass_deadline()
            mill.settle("saga.bread")
            raise RuntimeError("the wheel is broken")

        mill.acts = grind
        mill.open(retry=retry, external=external, saga=IN_TIME)
        [id] = mill.order(1)
        for _ in range(4):
            mill.settle()
            mill.end_leases()
        assert runs == [1]
        # There it may be known as one that failed for good; nobody can retry it at home.
        assert mill.at_the_mill()["state"] in ("parked", "revoked")
        row = mill.at_home()
        assert row["state"] == "revoked"
        assert row["last_error"].endswith("revoked: its step was given up")
        assert mill.status(id) == "compensated"
        mill.check()

    @pytest.mark.parametrize("external", [False, True])
    def test_one_that_waits_there_for_its_next_attempt_is_taken_back_at_once(
        self, mill: Mill, external: bool
    ) -> None:
        mill.acts = fall
        mill.open(retry=HOURLY, external=external, saga=IN_TIME)
        [id] = mill.order(1)
        mill.settle()
        assert mill.at_the_mill()["state"] == "pending"
        mill.acts = act_nothing
        mill.pass_deadline()
        mill.settle()
        assert mill.at_the_mill()["state"] == "revoked"
        row = mill.at_home()
        assert (row["state"], row["started_at"] is None) == ("revoked", not external)
        assert mill.status(id) == "compensated"
        assert GROUND not in mill.milled()
        mill.check()

    def test_a_key_that_outlives_a_replay_does_so_there(self, mill: Mill) -> None:
        keys: list[str] = []

        def call(command: Grind, work: Work) -> None:
            keys.append(work.idempotency_key)
            if len(keys) == 1:
                raise RuntimeError("the answer was lost")

        mill.acts = call
        mill.open(retry=Retry(attempts=1), external=True)
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "stuck"
        mill.replay(id)
        mill.settle()
        assert mill.status(id) == "completed"
        assert len(keys) == 2
        assert len(set(keys)) == 1


#: Every commit on the way, and how manieth of its boundary it is when one command goes there.
COMMITS = [
    pytest.param(Boundary.HOP, 1, id="claimed at home"),
    pytest.param(Boundary.FORWARD, 1, id="written there"),
    pytest.param(Boundary.FORWARDED, 1, id="confirmed at home"),
    pytest.param(Boundary.HOP, 2, id="handled there"),
    pytest.param(Boundary.RETURN, 1, id="settled at home"),
    pytest.param(Boundary.RETURNED, 1, id="acknowledged there"),
]


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
        monkeypatch.setattr("internals.database.circuit_breaker._SHORTEST", 60.0)
        monkeypatch.setattr("internals.database.circuit_breaker._LONGEST", 60.0)

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
            patch.setattr(type(mill.runtime.database), "open", _refuse(mill))
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
    home, usual = mill.runtime.database, type(mill.runtime.database).open

    def open(self: Any) -> Any:
        if self is home:
            raise OperationalError("home is down")
        return usual(self)

    return open


ONCE = Retry(attempts=1)


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
        inbox = Inbox("mill", known.settings.db_schema, known.statements)
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


class TestRelays:
    """One for each database; whatever is late, it is the context's doorbell that rings."""

    def rung(self, mill: Mill) -> int:
        """How many doorbells of the mill's wait."""
        waiting = mill.runtime.broker.waiting(["mill"])
        assert waiting is not None
        return waiting["mill"]

    def test_it_rings_for_what_is_late_there(self, mill: Mill) -> None:
        mill.order(1)
        Once(Boundary.HOP, "before", gone, 2)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        home, there = mill.runtime.relays()
        mill.alter("UPDATE inbox SET ring_at = now()", apart=True)
        assert home.look() == 0
        assert self.rung(mill) == 0
        assert there.look() == 1
        assert there.look() == 0
        assert self.rung(mill) == 1

    def test_it_rings_for_parcels(self, mill: Mill) -> None:
        mill.order(1)
        Once(Boundary.RETURN, "before", gone)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        mill.alter("UPDATE inbox SET ring_at = now()", apart=True)
        assert mill.runtime.relays()[1].look() == 1
        assert self.rung(mill) == 1

    def test_what_waits_for_another_database_is_rung_for_again_soon(self, mill: Mill) -> None:
        mill.order(1)
        Once(Boundary.RETURN, "before", gone)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        mill.alter("UPDATE inbox SET ring_at = now(), rings = 12", apart=True)
        mill.runtime.relays()[1].look()
        [parcel] = mill.there("SELECT ring_at - now() AS wait FROM inbox WHERE state = 'pending'")
        assert parcel["wait"] < timedelta(seconds=6)

    def test_it_rings_for_what_somebody_did_not_end_forwarding(self, mill: Mill) -> None:
        [id] = mill.order(1)
        Once(Boundary.FORWARD, "before", gone)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        home = mill.runtime.relay()
        home.look()
        assert self.rung(mill) == 0  # the lease has not ended
        mill.end_leases()
        home.look()
        assert self.rung(mill) == 1
        mill.settle()
        assert mill.status(id) == "completed"

    def test_what_its_database_has_lost_is_forwarded_anew(self, mill: Mill) -> None:
        [id] = mill.order(1)
        Once(Boundary.HOP, "before", gone, 2)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.alter("DELETE FROM inbox; DELETE FROM outbox", apart=True)  # restored from a backup
        mill.settle()
        assert mill.status(id) == "running"
        mill.alter("UPDATE inbox SET ring_at = now() WHERE state = 'pending'")
        mill.runtime.relay().look()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]

    def test_what_home_has_lost_comes_home_anew(self, mill: Mill) -> None:
        [id] = mill.order(1)
        mill.back_up()
        mill.settle()
        assert mill.status(id) == "completed"
        mill.restore()
        assert mill.status(id) == "running"
        assert mill.baked() == []
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.baked() == [1]
        mill.check()

    def test_without_redis_they_answer_for_it_themselves(
        self, mill: Mill, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [id] = mill.order(1)
        monkeypatch.setattr(mill.runtime.broker, "waiting", lambda _: None)
        for _ in range(4):
            for relay in mill.runtime.relays():
                mill.alter("UPDATE inbox SET ring_at = now() WHERE wait_reason IS NULL")
                relay.look()
        assert mill.status(id) == "completed"


class TestProcesses:
    def test_one_that_does_not_know_the_database_leaves_its_contexts_alone(
        self, mill: Mill
    ) -> None:
        mill.open(databases={})
        assert "mill" not in mill.runtime.consumers
        [id] = mill.order(1)
        assert mill.settle() == 0
        mill.open()
        mill.settle()
        assert mill.status(id) == "completed"

    def test_sagas_and_events_begin_at_home(self, mill: Mill) -> None:
        with (
            mill.engine.begin() as connection,
            pytest.raises(NoTransaction, match="in the database 'mills'"),
        ):
            mill.runtime.publish(connection, Sown(field="north", n=1))

    def test_so_do_those_of_handlers(self, mill: Mill) -> None:
        mill.acts = lambda _, work: mill.runtime.publish(work.session, Sown(field="north", n=1))
        mill.open(retry=ONCE)
        mill.order(1)
        mill.settle()
        assert "work.publish(...)" in mill.at_home()["last_error"]

    def test_each_database_is_migrated_and_looked_at(self, mill: Mill, own_name: str) -> None:
        mill.alter(f"DROP SCHEMA {own_name} CASCADE", apart=True)
        found = {f.check: f for f in diagnose(mill.runtime, application=True)}
        assert found["schema"].verdict is Verdict.FINE
        assert found["schema of mills"].verdict is Verdict.WRONG
        mill.runtime.migrate()
        found = {f.check: f for f in diagnose(mill.runtime, application=True)}
        assert found["schema of mills"].verdict is Verdict.FINE
        assert "own databases" not in found
        mill.open(databases={})
        found = {f.check: f for f in diagnose(mill.runtime, application=True)}
        assert found["own databases"].found.endswith("mill (mills), mouse (mills)")

    def test_one_that_does_not_answer_is_told_of(self, mill: Mill) -> None:
        mill.open(databases={"mills": "postgresql://nobody@127.0.0.1:1/nothing"})
        found = {f.check: f for f in diagnose(mill.runtime, application=True)}
        assert found["postgres"].verdict is Verdict.FINE
        assert "does not answer" in found["postgres of mills"].found

    def test_one_that_is_the_sagas_own_is_refused(self, mill: Mill) -> None:
        mill.open(databases={"mills": mill.runtime.engine})
        mill.order(1)
        with pytest.raises(
            DefinitionError, match="of context 'mill' is the one that has the sagas"
        ):
            mill.runtime.answer("mill")
        assert mill.at_home()["state"] == "pending"

    def test_a_url_that_is_none_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="database 'mills': give a Postgres URL"):
            Runtime(databases={"mills": "mysql://nobody@nowhere/nothing"})

    def test_a_name_that_is_none_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="database 'The Mill' must be a lower-case word"):
            Context("mill", database="The Mill")
