"""Each way in which a handler's run ends leads to one record, within a batch and under a lease."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from internals import Context
from internals.handler import Handler, Unreadable
from internals.hop.batch import Batch
from internals.hop.failure_isolation import is_too_slow
from internals.hop.handler_calls import HandlerCalls
from internals.hop.outcome import Outcome
from internals.hop.time_limits import Watch
from internals.hop.unhandled import Left
from internals.store.delivery import Delivery, Settlement
from internals.store.outbox import Outbox
from internals.store.sql import statements
from saga import Command, Envelope, Rejected, Retry


class Weigh(Command, kind="scales.weigh"):
    pass


@pytest.fixture
def recorded(command: Callable[..., Envelope]) -> Callable[[Outcome], tuple[Batch, Settlement]]:
    """Record how a run of a host's command ended; returns the batch and what it settles."""
    context = Context("scales")
    context.handles(Weigh, retry=Retry(attempts=3))(lambda command, work: None)  # noqa: ARG005
    outbox = Outbox(statements("saga"), grace=1.0)
    calls = HandlerCalls(outbox, Watch(), lambda _: nullcontext(), Left("scales"))

    def record(outcome: Outcome) -> tuple[Batch, Settlement]:
        batch, message = Batch("scales"), command(Weigh())
        handler = context.handler_of(message)
        assert isinstance(handler, Handler)
        calls.record(batch, Delivery(message, attempts=1, rings=0), handler, outcome)
        (settlement,) = batch.settlements
        return batch, settlement

    return record


BROKEN = ValueError("the scales are broken")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(0.5), ("done", None, 1, 0, False)),
        (Outcome(0.5, overran="took longer"), ("done", "took longer", 1, 0, False)),
        (Outcome(0.5, error=Rejected("no")), ("done", "rejected: no", 1, 0, False)),
        (
            Outcome(0.5, error=Unreadable("no such field")),
            ("pending", "cannot be read here: no such field", 1, 0, False),
        ),
        (Outcome(0.5, error=BROKEN), ("pending", f"ValueError: {BROKEN}", 2, 0, False)),
        (
            Outcome(0.5, error=BROKEN, gives_way=True),
            ("pending", f"ValueError: {BROKEN}", 1, 1, False),
        ),
        (
            Outcome(0.5, error=BROKEN, ended=True),
            ("pending", f"ValueError: {BROKEN}", 2, 0, True),
        ),
        # A lock that it waited for until its limit: nobody's fault.
        (
            Outcome(0.5, error=BROKEN, ended=True, gives_way=True),
            ("pending", f"ValueError: {BROKEN}", 1, 1, False),
        ),
        # A no is a no, whatever the connection.
        (
            Outcome(0.5, error=Rejected("no"), gives_way=True),
            ("done", "rejected: no", 1, 0, False),
        ),
    ],
)
def test_what_is_recorded(
    recorded: Callable[[Outcome], tuple[Batch, Settlement]],
    outcome: Outcome,
    expected: tuple[Any, ...],
) -> None:
    _, found = recorded(outcome)
    assert (found.state, found.error, found.attempts, found.yields, found.alone) == expected


def test_what_it_sent_goes_out_if_it_returned(
    recorded: Callable[[Outcome], tuple[Batch, Settlement]], command: Callable[..., Envelope]
) -> None:
    sent = command(Weigh())
    assert recorded(Outcome(0.5, [sent]))[0].messages == [sent]


@pytest.mark.parametrize(
    ("error", "gives_way"),
    [
        (ValueError("no"), False),
        (psycopg.errors.DeadlockDetected("a deadlock"), True),
        (psycopg.errors.IdleInTransactionSessionTimeout("too slow"), False),
    ],
)
def test_within_a_batch_the_error_says_whose_trouble_it_is(
    error: Exception, gives_way: bool
) -> None:
    assert Outcome.raised(0.5, error).gives_way is gives_way
    assert is_too_slow(error) is isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout)
