"""A worker that is told to stop ends what it has begun, and exits well."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from patient import BREAD, LOCK, UNLOCK, WAITING, Loaf, make_runtime

from boundary import Settings

HERE = Path(__file__).parent

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)


def test_the_delivery_in_hand_is_finished(
    settings: Settings, outside: Any, start_group: Any, eventually: Any
) -> None:
    outside.execute("CREATE TABLE ledger (n int)")
    outside.execute(LOCK, (settings.db_schema,))
    host = make_runtime(settings)
    with host.engine.begin() as connection:
        host.start(connection, BREAD, Loaf())
    host.close()
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    worker = start_group("patient:start", settings, environment={"PYTHONPATH": paths})
    eventually(
        lambda: outside.execute(WAITING, (settings.db_schema,)).fetchone()[0] == 1,
        what="the baker to be in its handler",
    )
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(worker.stop)
        eventually(lambda: "Stopping worker process" in worker.log() or not worker.running)
        outside.execute(UNLOCK, (settings.db_schema,))
        assert stopping.result(60) == 0
    assert outside.execute("SELECT n FROM ledger").fetchall() == [(1,)]
    row = outside.execute("SELECT state, attempts FROM inbox WHERE consumer = 'baker'").fetchone()
    assert row == ("done", 0)
