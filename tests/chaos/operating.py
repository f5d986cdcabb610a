"""An operator who cancels trips, and whose commands are struck like everything else.

``python -m tests.chaos.operating`` does so until it is ended.  An act is written down only when it
was acknowledged: what happened to the others, the tables have to tell.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from boundary import Runtime
from internals.database.commit_points import Boundary, transaction
from saga import ActRefused, Cancelled
from tests.chaos import failpoints
from tests.chaos.app import runtime_of
from tests.chaos.plan import PLACE, Plan
from tests.chaos.tally import Tally

CANCELLED = "saga_cancelled"
ACTOR = "the operator of the harness"

_LOG = "acts"
_TO_CANCEL = text(
    """SELECT id FROM saga WHERE status = 'running' AND (data->>'to_cancel')::bool
       ORDER BY random() LIMIT 20"""
)


def read_acts(folder: Path) -> Iterator[UUID]:
    """Iterate over the sagas whose cancelling was acknowledged, once for each time."""
    log = folder / _LOG
    for line in log.read_text().splitlines() if log.exists() else ():
        yield UUID(json.loads(line)["cancelled"])


def _operate(runtime: Runtime, plan: Plan, tally: Tally, done: set[UUID]) -> None:
    with runtime.engine.connect() as connection:
        ids = connection.execute(_TO_CANCEL).scalars().all()
    for id in set(ids) - done:
        try:
            with transaction(runtime._wiring.database, Boundary.ACT) as unit:
                reason = Cancelled(reason="they stay at home")
                acted = runtime._administration.acts.act(unit, id, reason, actor=ACTOR)
        except ActRefused:
            continue
        with (plan.folder / _LOG).open("a") as log:
            log.write(json.dumps({"cancelled": str(id)}) + "\n")
        done.add(id)
        tally.struck(CANCELLED)
        runtime._wiring.broker.ring(acted.woken)


def main() -> None:
    """Operate until the process is ended."""
    plan = Plan.load()
    tally = Tally(plan.folder)
    runtime = runtime_of(plan)
    failpoints.install(plan.failpoints, plan.folder, tally)
    (plan.folder / "booted" / os.environ[PLACE]).touch()
    done: set[UUID] = set()
    while True:
        try:
            _operate(runtime, plan, tally, done)
        except (SQLAlchemyError, psycopg.Error):
            runtime.engine.dispose()
        time.sleep(random.uniform(0.05, 0.3))


if __name__ == "__main__":
    main()
