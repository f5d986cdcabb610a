"""An operator who attends to stuck tours: replays, corrects, retries what is parked, or cancels.

``python -m tests.chaos.attending`` does so until it is ended, with the faults of its commits.
"""

import os
import random
import time
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from boundary import Runtime
from boundary.orchestration.operator_actions import Acted
from internals.database.commit_points import Boundary, transaction
from internals.database.unit_of_work import UnitOfWork
from saga import ActRefused, Cancelled, Replayed
from tests.chaos import failpoints
from tests.chaos.app import runtime_of
from tests.chaos.breaking import mend
from tests.chaos.operating import ACTOR
from tests.chaos.plan import PLACE, Plan
from tests.chaos.tally import Tally

REPLAYED, CORRECTED, REWOUND = "replayed", "replayed_with_data", "replayed_from_step"
RETRIED, STUCK_CANCELLED = "parked_retried", "stuck_cancelled"
DEADLINE = "deadline_passed_in_call"

ACTS = (REPLAYED, CORRECTED, REWOUND, RETRIED, STUCK_CANCELLED)

_REASON = "it is mended"

_STUCK = text(
    """SELECT id, (data->>'trip_id')::uuid AS trip_id FROM saga WHERE status = 'stuck'
       ORDER BY random() LIMIT 10"""
)
_PARKED = text(
    "SELECT DISTINCT message_id FROM inbox WHERE state = 'parked' AND saga_id = :saga_id"
)
# Parked under a saga that does not wait for it any more: nobody would miss it.
_LEFT = text(
    """SELECT DISTINCT g.id, (g.data->>'trip_id')::uuid AS trip_id
       FROM inbox AS i JOIN saga AS g ON g.id = i.saga_id
       WHERE i.state = 'parked' AND g.status <> 'stuck' LIMIT 10"""
)
_DEADLINES = text(
    """SELECT count(*) FROM inbox AS i JOIN outbox AS o ON o.id = i.message_id
       WHERE o.kind = 'saga.timed_out' AND i.position IS NOT NULL"""
)


class _Operator:
    """Does to a stuck saga what comes to mind, and does not do it again and again."""

    def __init__(self, runtime: Runtime, tally: Tally) -> None:
        self._runtime = runtime
        self._tally = tally
        self._deadlines = 0
        self._absent = set(ACTS)

    def look(self) -> None:
        """Do one thing to each saga that needs somebody."""
        with self._runtime.engine.connect() as connection:
            stuck = [(row.id, row.trip_id) for row in connection.execute(_STUCK)]
            left = [(row.id, row.trip_id) for row in connection.execute(_LEFT)]
            parked = {id: self._parked(connection, id) for id, _ in (*stuck, *left)}
            passed = connection.execute(_DEADLINES).scalar_one()
        for _ in range(passed - self._deadlines):
            self._tally.struck(DEADLINE)
        self._deadlines = passed
        for id, trip_id in stuck:
            # What was not done yet goes first, mostly: it may be refused for some.
            ahead = self._absent and random.random() < 0.7
            act = random.choice(tuple(self._absent) if ahead else ACTS)
            self._try(act, id, trip_id, parked[id])
        for id, trip_id in left:
            self._try(RETRIED, id, trip_id, parked[id])

    def _try(self, act: str, id: UUID, trip_id: UUID, parked: list[UUID]) -> None:
        if act not in (CORRECTED, STUCK_CANCELLED):
            mend(trip_id)
        try:
            woken = self._act(act, id, parked)
        except ActRefused:
            return
        self._absent.discard(act)
        self._tally.struck(act)
        self._runtime._wiring.broker.ring(woken)

    def _act(self, act: str, id: UUID, parked: list[UUID]) -> frozenset[str]:
        with transaction(self._runtime._wiring.database, Boundary.ACT) as unit:
            if act == RETRIED:
                if not parked:
                    raise ActRefused("nothing is parked")
                return self._runtime._administration.acts.parked.retry(
                    unit, parked, actor=ACTOR, reason=_REASON
                )
            return self._on_saga(unit, act, id).woken

    def _on_saga(self, unit: UnitOfWork, act: str, id: UUID) -> Acted:
        said = {
            REPLAYED: Replayed(reason=_REASON),
            CORRECTED: Replayed(reason=_REASON, data={"mended": True}),
            REWOUND: Replayed(reason=_REASON, from_step=random.choice(("car", "deposit"))),
            STUCK_CANCELLED: Cancelled(reason="they stay at home"),
        }[act]
        return self._runtime._administration.acts.act(unit, id, said, actor=ACTOR)

    def _parked(self, connection: Connection, id: UUID) -> list[UUID]:
        return list(connection.execute(_PARKED, {"saga_id": id}).scalars())


def main() -> None:
    """Attend until the process is ended."""
    plan = Plan.load()
    tally = Tally(plan.folder)
    runtime = runtime_of(plan)
    failpoints.install(plan.failpoints, plan.folder, tally)
    (plan.folder / "booted" / os.environ[PLACE]).touch()
    operator = _Operator(runtime, tally)
    while True:
        try:
            operator.look()
        except (SQLAlchemyError, psycopg.Error):
            runtime.engine.dispose()
        time.sleep(random.uniform(0.2, 0.6))


if __name__ == "__main__":
    main()
