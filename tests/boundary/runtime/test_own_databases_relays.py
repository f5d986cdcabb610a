"""A context with a database of its own: what relays find there, and workers beside each other."""

from datetime import timedelta

import pytest

from boundary import Runtime
from boundary.operations.doctor import Verdict, diagnose
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from saga import DefinitionError, NoTransaction
from tests.boundary.worlds.own_database_app import Mill, Sown
from tests.boundary.worlds.own_database_faults import GROUND, ONCE, Gone, Once, gone


def _publish(mill: Mill, work: Work) -> None:
    mill.runtime.publish(work.session, Sown(field="north", n=1))


class TestRelays:
    """One for each database; whatever is late, it is the context's doorbell that rings."""

    def rung(self, mill: Mill) -> int:
        """How many doorbells of the mill's wait."""
        waiting = mill.runtime._wiring.broker.waiting(["mill"])
        assert waiting is not None
        return waiting["mill"]

    def test_it_rings_for_what_is_late_there(self, mill: Mill) -> None:
        mill.order(1)
        Once(Boundary.HOP, "before", gone, 2)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        home, there = mill.runtime._worker_loop.relays()
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
        assert mill.runtime._worker_loop.relays()[1].look() == 1
        assert self.rung(mill) == 1

    def test_what_waits_for_another_database_is_rung_for_again_soon(self, mill: Mill) -> None:
        mill.order(1)
        Once(Boundary.RETURN, "before", gone)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        mill.alter("UPDATE inbox SET ring_at = now(), rings = 12", apart=True)
        mill.runtime._worker_loop.relays()[1].look()
        [parcel] = mill.there("SELECT ring_at - now() AS wait FROM inbox WHERE state = 'pending'")
        assert parcel["wait"] < timedelta(seconds=6)

    def test_it_rings_for_what_somebody_did_not_end_forwarding(self, mill: Mill) -> None:
        [id] = mill.order(1)
        Once(Boundary.FORWARD, "before", gone)
        with pytest.raises(Gone):
            mill.settle("mill")
        watch(None)
        mill.silence()
        home = mill.runtime._worker_loop.relay()
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
        mill.runtime._worker_loop.relay().look()
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
        monkeypatch.setattr(mill.runtime._wiring.broker, "waiting", lambda _: None)
        for _ in range(4):
            for relay in mill.runtime._worker_loop.relays():
                mill.alter("UPDATE inbox SET ring_at = now() WHERE wait_reason IS NULL")
                relay.look()
        assert mill.status(id) == "completed"


class TestProcesses:
    def test_one_that_does_not_know_the_database_leaves_its_contexts_alone(
        self, mill: Mill
    ) -> None:
        mill.open(databases={})
        assert "mill" not in mill.runtime._wiring.consumers
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
        mill.acts = lambda _, work: _publish(mill, work)
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
