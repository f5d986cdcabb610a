"""The worker under test: ``dramatiq tests.chaos.worker``, with the faults of its plan inside."""

import os
from pathlib import Path
from typing import Any

import dramatiq

from tests.chaos import doorbells, failpoints, hanging
from tests.chaos.app import runtime_of
from tests.chaos.blame import note_blame
from tests.chaos.plan import PLACE, Plan
from tests.chaos.tally import Tally
from tests.chaos.worker_faults import POOL, SKEW, narrow_engine, skew_clock


class _Booted(dramatiq.Middleware):
    """Tells that this worker works, so that a kill is not spent on one that does not yet."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:
        self._mark.touch()


def build_broker() -> dramatiq.Broker:
    """Wire the application as any worker does, then break what the plan says."""
    plan = Plan.load()
    tally = Tally(plan.folder)
    connections = os.environ.get(POOL)
    engine = narrow_engine(plan.database_url, int(connections), tally) if connections else None
    runtime = runtime_of(plan, engine)
    if SKEW in os.environ:
        skew_clock(float(os.environ[SKEW]), runtime.engine, tally)
    note_blame(plan.folder)
    failpoints.install(plan.failpoints, plan.folder, tally)
    hanging.install(plan.hangs, plan.folder, tally)
    doorbells.install(runtime._wiring.broker, plan.doorbells, tally)  # type: ignore[arg-type]
    built = runtime.worker()
    built.add_middleware(_Booted(plan.folder / "booted" / os.environ[PLACE]))
    return built


broker = build_broker()
dramatiq.set_broker(broker)
