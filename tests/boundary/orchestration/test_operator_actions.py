"""Acts on real Postgres: what operators do, each with its row in the audit."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from boundary import Settings
from boundary.migration import migrate
from boundary.orchestration.operator_actions import Acted
from internals.database.unit_of_work import joined
from saga import ActRefused, Message, PayloadError
from saga.messages import Cancelled, Replayed, Skipped
from tests.boundary.worlds.deadline_saga import CAREFUL, ONCE, WARY, Calm, Port, failing

WHY = "the customer called"


@pytest.fixture
def port(runtime: Any, outside: Any) -> Port:
    return Port(runtime, outside)


@pytest.fixture
def stuck(port: Port) -> UUID:
    """A crossing whose charge is parked, at a bank that is open again."""
    port.open("cabins", "bank", "pier", charge=failing(1), retry=ONCE)
    id = port.start()
    port.settle()
    assert port.status(id) == "stuck"
    return id


def act(port: Port, id: UUID, message: Message) -> Acted:
    with port.runtime.engine.begin() as connection:
        return port.runtime._administration.acts.act(joined(connection), id, message, actor="ann")


def parked(port: Port) -> list[UUID]:
    return [row["message_id"] for row in port.rows("SELECT * FROM inbox WHERE state = 'parked'")]


class TestAudit:
    @pytest.mark.parametrize(
        ("message", "act_name", "detail"),
        [
            (Cancelled(reason=WHY), "cancelled", {}),
            (
                Replayed(reason=WHY, data={"cents": 5}),
                "replayed",
                {"from_step": None, "data": {"cents": 5}},
            ),
            (Skipped(step="charge", reason=WHY), "skipped", {"step": "charge"}),
        ],
    )
    def test_each_act_on_a_saga_has_its_row(
        self, port: Port, stuck: UUID, message: Message, act_name: str, detail: dict[str, Any]
    ) -> None:
        act(port, stuck, message)
        (row,) = port.audit()
        assert (row["actor"], row["act"], row["reason"]) == ("ann", act_name, WHY)
        assert (row["saga_id"], row["message_id"], row["detail"]) == (stuck, None, detail)

    @pytest.mark.parametrize(
        ("method", "act_name"),
        [("retry", "parked retry"), ("drop", "parked drop")],
    )
    def test_so_has_each_act_on_a_parked_delivery(
        self, port: Port, stuck: UUID, method: str, act_name: str
    ) -> None:
        ids = parked(port)
        with port.runtime.engine.begin() as connection:
            getattr(port.runtime._administration.acts.parked, method)(
                joined(connection), ids, actor="ann", reason=WHY
            )
        (row,) = port.audit()
        assert (row["actor"], row["act"], row["reason"]) == ("ann", act_name, WHY)
        assert [row["message_id"]] == ids

    @pytest.mark.parametrize(
        ("message", "actor", "words"),
        [
            (Cancelled(reason="x" * 2001), "ann", "a reason has 2,000 characters at most"),
            (Skipped(step="charge", reason=WHY), "a" * 201, "an actor has 200 characters at most"),
            (Skipped(step="charge", reason=WHY), "a\0", "an actor has a character that Postgres"),
            (Cancelled(reason="  "), "ann", "give a reason"),
        ],
    )
    def test_what_is_too_large_to_be_kept_is_refused_and_nothing_is_done(
        self, port: Port, stuck: UUID, message: Message, actor: str, words: str
    ) -> None:
        before = port.rows("SELECT * FROM saga"), port.rows("SELECT * FROM outbox")
        with port.runtime.engine.begin() as connection, pytest.raises(PayloadError, match=words):
            port.runtime._administration.acts.act(joined(connection), stuck, message, actor=actor)
        assert (port.rows("SELECT * FROM saga"), port.rows("SELECT * FROM outbox")) == before
        assert port.audit() == []

    @pytest.mark.parametrize("method", ["retry", "drop"])
    def test_so_it_is_with_acts_on_parked_deliveries(
        self, port: Port, stuck: UUID, method: str
    ) -> None:
        ids, before = parked(port), port.rows("SELECT * FROM inbox ORDER BY message_id")
        do = getattr(port.runtime._administration.acts.parked, method)
        for actor, reason in (("ann", "x" * 2001), ("a" * 201, WHY), ("ann", "")):
            with port.runtime.engine.begin() as connection, pytest.raises(PayloadError):
                do(joined(connection), ids, actor=actor, reason=reason)
            with port.runtime.engine.begin() as connection, pytest.raises(PayloadError):
                do(joined(connection), ids, actor=actor, reason=reason)
        assert port.rows("SELECT * FROM inbox ORDER BY message_id") == before

    def test_an_act_that_is_rolled_back_has_none(self, port: Port, stuck: UUID) -> None:
        with port.runtime.engine.connect() as connection, connection.begin() as transaction:
            port.runtime.cancel(connection, stuck, reason=WHY, actor="ann")
            transaction.rollback()
        assert port.audit() == []
        assert port.states("saga.cancelled") == []

    def test_one_that_is_refused_has_none(self, port: Port) -> None:
        port.open("cabins", "bank", "pier")
        id = port.start()
        port.settle()
        with pytest.raises(ActRefused, match="completed already"):
            act(port, id, Cancelled(reason=WHY))
        assert port.audit() == []

    def test_one_without_a_reason_is_refused(self, port: Port, stuck: UUID) -> None:
        with pytest.raises(PayloadError, match="give a reason"):
            act(port, stuck, Cancelled(reason=" "))
        assert port.states("saga.cancelled") == []

    @pytest.mark.parametrize(
        "change", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"]
    )
    def test_no_row_is_ever_changed_even_by_the_tables_owner(
        self, port: Port, stuck: UUID, engine: Engine, change: str
    ) -> None:
        act(port, stuck, Cancelled(reason=WHY))
        with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
            connection.execute(text(change))
        assert [row["actor"] for row in port.audit()] == ["ann"]

    def test_nobody_else_may_change_it_whatever_the_schema_grants(
        self, owner: Engine, empty_settings: Settings
    ) -> None:
        schema = empty_settings.db_schema
        with owner.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
            connection.execute(
                text(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO PUBLIC")
            )
        migrate(owner, schema)
        with owner.connect() as connection:
            granted = {
                right
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
                if connection.scalar(
                    text("SELECT has_table_privilege('public', :audit, :right)"),
                    {"audit": f"{schema}.audit", "right": right},
                )
            }
        assert granted == {"SELECT", "INSERT"}


class TestSaga:
    def test_a_cancelled_one_is_undone(self, port: Port) -> None:
        port.open("cabins")
        id = port.start()
        port.settle()
        acted = act(port, id, Cancelled(reason=WHY))
        assert (acted.before, acted.after) == ("running", "compensating")
        port.open("cabins", "bank")
        port.settle()
        assert port.status(id) == "compensated"
        assert port.done == ["cabins.reserve", "cabins.release"]  # nobody had begun to charge

    def test_a_stuck_one_that_is_cancelled_is_undone_at_once(self, port: Port, stuck: UUID) -> None:
        acted = act(port, stuck, Cancelled(reason=WHY))
        assert (acted.before, acted.after) == ("stuck", "compensating")
        port.settle()
        assert port.status(stuck) == "compensated"
        assert port.states("bank.charge") == ["revoked"]
        assert port.done == ["cabins.reserve", "cabins.release"]

    def test_a_replayed_one_orders_anew_and_the_parked_row_stays(
        self, port: Port, stuck: UUID
    ) -> None:
        act(port, stuck, Replayed(reason=WHY, data={"cents": 5}))
        port.settle()
        assert port.status(stuck) == "completed"
        old, new = port.deliveries("bank.charge")
        assert (old["state"], old["payload"]["cents"]) == ("revoked", 100)
        assert "superseded" in old["last_error"]
        assert (new["state"], new["payload"]["cents"]) == ("done", 5)

    def test_a_signal_that_comes_early_is_kept(self, port: Port) -> None:
        id = port.start(CAREFUL)  # no cabin yet, so nobody waits
        with port.runtime.engine.begin() as connection:
            port.runtime.signal(connection, id, Calm())
        port.settle()
        port.open("cabins", "pier")
        port.settle()
        assert port.status(id) == "completed"

    def test_two_signals_that_come_early_are_kept_both(self, port: Port) -> None:
        id = port.start(WARY)
        with port.runtime.engine.begin() as connection:
            port.runtime.signal(connection, id, Calm())
            port.runtime.signal(connection, id, Calm())
        port.settle()
        port.open("cabins", "pier")
        port.settle()
        assert port.status(id) == "completed"


class TestTwoOperators:
    def test_what_one_has_delivered_again_another_cannot_order_anew(
        self, port: Port, stuck: UUID
    ) -> None:
        with port.runtime.engine.begin() as connection:
            port.runtime._administration.acts.parked.retry(
                joined(connection), parked(port), actor="bob", reason=WHY
            )
        with pytest.raises(ActRefused, match="is not parked any more: it was retried"):
            act(port, stuck, Replayed(reason=WHY))
        with pytest.raises(ActRefused, match="is not parked any more: it was retried"):
            act(port, stuck, Skipped(step="charge", reason=WHY))
        assert [row["actor"] for row in port.audit()] == ["bob"]
        port.settle()
        assert port.done.count("bank.charge") == 1
        assert port.status(stuck) == "completed"

    @pytest.mark.parametrize(
        ("message", "charges"), [(Replayed(reason=WHY), 1), (Skipped(step="charge", reason=WHY), 0)]
    )
    def test_what_one_has_dropped_another_can_settle(
        self, port: Port, stuck: UUID, message: Message, charges: int
    ) -> None:
        with port.runtime.engine.begin() as connection:
            port.runtime._administration.acts.parked.drop(
                joined(connection), parked(port), actor="bob", reason=WHY
            )
        act(port, stuck, message)
        port.settle()
        assert port.done.count("bank.charge") == charges
        assert port.status(stuck) == "completed"

    def test_what_one_has_skipped_another_cannot_deliver_again(
        self, port: Port, stuck: UUID
    ) -> None:
        ids = parked(port)
        act(port, stuck, Skipped(step="charge", reason=WHY))
        with (
            pytest.raises(ActRefused, match="1 of 1 deliveries are not parked"),
            port.runtime.engine.begin() as connection,
        ):
            port.runtime._administration.acts.parked.retry(
                joined(connection), ids, actor="bob", reason=WHY
            )


class TestParked:
    def test_one_that_is_retried_is_delivered_as_it_is(self, port: Port, stuck: UUID) -> None:
        with port.runtime.engine.begin() as connection:
            woken = port.runtime._administration.acts.parked.retry(
                joined(connection), parked(port), actor="ann", reason=WHY
            )
        assert woken == {"bank"}
        port.settle()
        assert port.states("bank.charge") == ["done"]
        assert port.status(stuck) == "completed"

    def test_one_that_is_dropped_stays_with_the_reason(self, port: Port, stuck: UUID) -> None:
        ids = parked(port)
        with port.runtime.engine.begin() as connection:
            port.runtime._administration.acts.parked.drop(
                joined(connection), ids, actor="ann", reason=WHY
            )
        (row,) = port.deliveries("bank.charge")
        assert (row["message_id"], row["state"]) == (ids[0], "revoked")
        assert row["last_error"] == f"ValueError: the bank is closed; dropped: {WHY}"

    @pytest.mark.parametrize("method", ["retry", "drop"])
    def test_one_that_is_not_parked_is_refused_with_all_the_others(
        self, port: Port, stuck: UUID, method: str
    ) -> None:
        (started,) = port.deliveries("cabins.reserve")
        ids = [*parked(port), started["message_id"]]
        with (
            pytest.raises(ActRefused, match="1 of 2 deliveries are not parked"),
            port.runtime.engine.begin() as connection,
        ):
            getattr(port.runtime._administration.acts.parked, method)(
                joined(connection), ids, actor="ann", reason=WHY
            )
        assert parked(port) == ids[:1]
        assert port.audit() == []
