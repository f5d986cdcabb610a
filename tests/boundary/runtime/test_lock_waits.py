"""What hosts call waits for another transaction's locks for a while, and then says what is locked."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import text

from boundary import Runtime
from boundary.operations.doctor import Verdict, diagnose
from boundary.queries.saga_detail import show_saga
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop.colocation import HopTransaction
from saga import Command, Event, Saga, Step, StillLocked


class Deed(BaseModel):
    house: str = "1"


class Sign(Command, kind="notary.sign"):
    house: str


class Signed(Event, kind="notary.signed"):
    house: str


class Filed(Event, kind="notary.filed"):
    house: str


DEED = Saga("deed", Deed, (Step("sign", lambda d: Sign(house=d.house)),), key=lambda d: d.house)


def contexts() -> list[Context]:
    notary, register = Context("notary"), Context("register")

    @notary.handles(Sign, emits=(Signed,))
    def sign(command: Sign, work: Work) -> None:
        work.publish(Signed(house=command.house))

    @register.reacts_to(Signed, ordered_by="house")
    def write(event: Signed, work: Work) -> None: ...

    return [notary, register]


@pytest.fixture
def office(runtime: Callable[..., Runtime]) -> Runtime:
    made = runtime([DEED], contexts(), frozen_after=0.1)
    made.subscribe()
    return made


def waiting(made: Runtime, act: Callable[[Any], object], match: str) -> None:
    """Act in a transaction that goes on, though the act waits in vain."""
    with made.engine.begin() as connection:
        with pytest.raises(StillLocked, match=match):
            act(connection)
        assert connection.execute(text("SELECT current_setting('lock_timeout')")).scalar() == "0"
        made.publish(connection, Filed(house="9"))


def test_each_call_says_what_is_locked_and_leaves_the_transaction_usable(office: Runtime) -> None:
    with office.engine.begin() as connection:
        id = office.start(connection, DEED, Deed(house="2"))
    with office.engine.begin() as frozen:
        office.publish(frozen, Signed(house="1"))
        office.start(frozen, DEED, Deed(house="1"))
        office.cancel(frozen, id, reason="sold", actor="ann")
        waiting(office, lambda c: office.publish(c, Signed(house="1")), "ordering key of notary.s")
        waiting(office, lambda c: office.start(c, DEED, Deed(house="1")), "the start of deed '1'")
        waiting(
            office,
            lambda c: office.cancel(c, id, reason="sold", actor="bob"),
            f"saga {id} is locked by another transaction.*saga doctor",
        )


def test_a_hop_gives_way_to_a_key_that_is_held_and_others_do_not_wait_for_it(
    office: Runtime, outside: psycopg.Connection[Any], eventually: Callable[..., Any]
) -> None:
    with office.engine.begin() as connection:
        office.start_many(connection, DEED, [Deed(house=str(n)) for n in range(20)])
    by_house = "SELECT payload->>'house' FROM outbox WHERE kind = 'notary.signed'"
    waits = "SELECT attempts, last_error FROM inbox WHERE consumer = 'notary' AND state = 'pending'"

    def done() -> set[str]:
        office.answer("notary", follow=True)
        return {house for (house,) in outside.execute(by_house).fetchall()}

    others = {str(n) for n in range(20)} - {"1"}
    # What a host's transaction holds may be held for as long as that takes.
    with office.engine.begin() as frozen:
        office.publish(frozen, Signed(house="1"))
        eventually(lambda: done() == others, 30, "those of other keys")
        [(attempts, error)] = outside.execute(waits).fetchall()
        assert attempts == 0
        assert "another transaction holds an ordering key" in error
    eventually(lambda: "1" in done() and not outside.execute(waits).fetchall(), 30, "the last one")


def test_many_that_need_a_held_key_keep_nobody_and_are_never_counted(
    office: Runtime, outside: psycopg.Connection[Any], eventually: Callable[..., Any]
) -> None:
    with office.engine.begin() as connection:
        signs = [Deed(house=f"1{'0' * n}") for n in range(8)]
        office.start_many(connection, DEED, signs)
    look = "SELECT state, yields, attempts FROM inbox WHERE consumer = 'notary'"

    def waited(times: int) -> bool:
        outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")
        office.answer("notary")
        return all(yields >= times for _, yields, _ in outside.execute(look).fetchall())

    with office.engine.begin() as frozen:
        for deed in signs:
            office.publish(frozen, Signed(house=deed.house))
        eventually(lambda: waited(3), 60, "several runs of each")
    outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")
    assert office.answer("notary") == 8
    assert {row[::2] for row in outside.execute(look).fetchall()} == {("done", 0)}


def test_doctor_and_show_name_a_session_that_holds_deliveries(
    runtime: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    office = runtime([DEED], contexts())
    office.subscribe()
    monkeypatch.setattr("boundary.queries.blocking_sessions.IDLE", "0 s")
    with office.engine.begin() as connection:
        id = office.start(connection, DEED, Deed(house="1"))
    opened = office._wiring.database.open()
    office._wiring.consumers["notary"].handle(HopTransaction(opened.unit), 64)
    pid = opened.unit.run("SELECT pg_backend_pid()", {})[0][0]
    try:
        found = {f.check: f for f in diagnose(office, application=True)}["idle sessions"]
        assert found.verdict is Verdict.WRONG
        assert f"pid {pid}" in found.found
        assert "1 delivery" in found.found
        with office.engine.begin() as connection:
            detail = show_saga(SqlAlchemyUnitOfWork(connection), office.settings.db_schema, id)
        assert [(holder.pid, holder.deliveries) for holder in detail.holders] == [(pid, 1)]
    finally:
        opened.roll_back()
    assert "idle sessions" not in {
        f.check for f in diagnose(office, application=True) if f.verdict is Verdict.WRONG
    }
