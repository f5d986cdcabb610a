"""Testing: run what is due in a test's own transaction, in process, in the same order each time.

In a `TestCase` nothing is ever committed, so no worker would see anything.  Here the hops become
savepoints of the test's transaction instead; with a `TransactionTestCase` they are transactions, and
the `flush` at its end removes what they left (see `boundary.django.db.flush`).

    order = place("teapot")
    run_due()
    assert Saga.objects.get(pk=order.saga_id).status == "completed"
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from boundary.django.project import ProjectRuntime, runtime
from boundary.runtime.composition import wiring_of
from internals.database.commit_points import Boundary, transaction
from internals.database.unit_of_work import UnitOfWork

#: Deliveries after which a run counts as endless.
_MOST = 100_000

# Within a transaction now() stands still, and what is due again by the clock would never be.
_CATCH_UP = """
UPDATE {schema}.inbox SET due_at = now()
WHERE state = 'pending' AND due_at > now() AND due_at <= clock_timestamp()
"""

_ADVANCE = """
UPDATE {schema}.inbox
SET ring_at = ring_at - %(by)s::interval, due_at = due_at - %(by)s::interval
WHERE state = 'pending'
"""


def run_due() -> int:
    """Run everything that is due, and what comes of it, until nothing is.

    What waits for a later time stays: a deadline, the next attempt of a handler that failed.

    Returns the number of deliveries settled.  Raises `RuntimeError` if there is no end to it.
    """
    made = runtime()
    settled = 0
    with made.nested():
        made.subscribe()
        while True:
            _run(made, _CATCH_UP)
            done = sum(made.answer(name) for name in wiring_of(made).consumers)
            if not done:
                return settled
            settled += done
            if settled > _MOST:
                raise RuntimeError(f"{settled:,} deliveries, and more are due all the time")


def advance(by: timedelta) -> int:
    """Move time forward for all that waits, run what is due then, and return the number settled.

    Deadlines, timeouts and backoffs come so much nearer; no clock is touched.
    """
    made = runtime()
    with made.nested():
        _run(made, _ADVANCE, by=by)
    return run_due()


@contextmanager
def unit_of_test() -> Iterator[UnitOfWork]:
    """Give the framework's own view of the test's transaction, for statements about its tables."""
    made = runtime()
    with made.nested(), transaction(wiring_of(made).database, Boundary.ACT) as unit:
        yield unit


def _run(made: ProjectRuntime, statement: str, **parameters: object) -> None:
    with unit_of_test() as unit:
        unit.run(statement.format(schema=made.settings.db_schema), parameters)
