"""A saga whose command always gives way to the database does not run for ever."""

from typing import Any

import pytest
from pydantic import BaseModel

from internals import Context, Work
from saga import Command, Retry, Saga, Step


class Order(BaseModel):
    number: str = "1"


class Do(Command, kind="jobs.do"):
    order: str


JOB = Saga("job", Order, steps=(Step("do", lambda order: Do(order=order.number)),))


@pytest.mark.parametrize("state", ["53400", "53300", "40001", "55P03"])
def test_it_is_stuck_after_the_attempts_that_its_policy_allows(
    runtime: Any, outside: Any, state: str
) -> None:
    jobs, runs = Context("jobs"), []

    @jobs.handles(Do, retry=Retry(attempts=3))
    def do(command: Do, work: Work) -> None:
        runs.append(command.order)
        work.execute(
            f"DO $$ BEGIN RAISE EXCEPTION 'the quota is used up' USING ERRCODE = '{state}'; END $$"
        )

    made = runtime([JOB], [jobs])
    with made.engine.begin() as connection:
        made.start(connection, JOB, Order())
    for _ in range(12):
        for name in made._wiring.consumers:
            made.answer(name, follow=True)
        outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")
    [(status, reason)] = outside.execute("SELECT status, reason FROM saga").fetchall()
    assert (status, len(runs)) == ("stuck", 3)
    assert "the quota is used up" in reason
