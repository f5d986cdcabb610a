"""The engine of a runtime refuses what would part a handler's effects from its delivery."""

from typing import Any

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from internals import Context, Work
from saga import Command, Saga, Step


class Shift(BaseModel):
    n: int


class Lock(Command, kind="gate.lock"):
    n: int


SHIFT = Saga("shift", Shift, (Step("lock", lambda shift: Lock(n=shift.n)),))


def test_a_session_of_the_handler_s_own_cannot_end_the_transaction_of_its_batch(
    runtime: Any, outside: Any
) -> None:
    def lock(command: Lock, work: Work) -> None:
        work.connection.execute(text("INSERT INTO ledger VALUES (:n)"), {"n": command.n})
        if command.n == 2:
            session = Session(work.connection)
            session.connection()
            session.rollback()

    outside.execute("CREATE TABLE ledger (n int)")
    gate = Context("gate")
    gate.handles(Lock)(lock)
    one = runtime([SHIFT], [gate])
    with one.engine.begin() as connection:
        one.start_many(connection, SHIFT, [Shift(n=n) for n in (1, 2, 3)])
    one.answer("gate")
    assert outside.execute("SELECT n FROM ledger ORDER BY n").fetchall() == [(1,), (3,)]
    (row,) = outside.execute(
        "SELECT attempts, last_error FROM inbox WHERE consumer = 'gate' AND state = 'pending'"
    ).fetchall()
    assert row[0] == 1
    assert "must not commit or roll back" in row[1]
