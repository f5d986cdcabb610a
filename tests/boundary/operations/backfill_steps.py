"""A backfill, step by step."""

from collections.abc import Iterator
from datetime import timedelta

from boundary.operations.backfill import BackfillStep, Stage, backfill
from tests.boundary.worlds.late_subscriber_app import Paper

DAY = timedelta(days=1)


def begin(paper: Paper, since: timedelta | None = DAY, rate: float = 1e6) -> Iterator[BackfillStep]:
    return backfill(paper.runtime, "readers", since, rate=rate, actor="ann", reason="new readers")


def handing(steps: Iterator[BackfillStep]) -> BackfillStep:
    """The first portion; transactions of other tests may be waited for before."""
    return next(step for step in steps if step.stage is Stage.HANDING)


def finish(steps: Iterator[BackfillStep]) -> BackfillStep:
    *_, last = steps
    return last
