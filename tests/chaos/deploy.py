"""The deploy that begins a run: the tables are made, by migrations that are struck first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from boundary import Runtime
from examples.travel.checks import Check, judge
from tests.chaos import failpoints
from tests.chaos.crew import ROOT
from tests.chaos.freezing import grant, read_frozen
from tests.chaos.ledger import create_tables
from tests.chaos.plan import SCHEMA
from tests.chaos.profiles import MIGRATION_FAULTS, MIGRATION_FREEZES, Profile
from tests.chaos.servers import OwnServers

#: Seconds that a migration is frozen, and that one may take.
_FROZEN, _PATIENCE = 3.0, 120.0


def migrate(profile: Profile, host: Runtime, servers: OwnServers) -> Check:
    """Make the tables; where it is the profile's, strike at the commit in each way before."""
    problems = []
    struck = dict(zip(MIGRATION_FAULTS, failpoints.KINDS, strict=True))
    struck |= dict(zip(MIGRATION_FREEZES, failpoints.FREEZES, strict=True))
    for fault, kind in struck.items():
        if fault in profile.faults:
            status = _strike(kind, servers.folder)
            # Who was frozen may find its transaction gone, and says so.
            committed = kind.endswith("after") or (kind in failpoints.FREEZES and status == 0)
            if committed is not _is_migrated(servers):
                problems.append(f"after {kind} the schema was {'not ' * committed}there")
    host.migrate()
    for engine in (host.engine, *host.own_engines.values()):
        with engine.begin() as connection:
            create_tables(connection)
    return judge("migration_whole_or_not_at_all", problems)


def _strike(kind: str, folder: Path) -> int:
    """Run a migration that meets this; returns its exit status."""
    grant(folder)
    with (folder / "workers.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.migrating", kind],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,  # a kill takes its whole group
        )
    deadline = time.monotonic() + _PATIENCE
    try:
        while process.poll() is None and time.monotonic() < deadline:
            for slot, frozen in read_frozen(folder):
                if time.monotonic() - frozen.since > _FROZEN:
                    os.killpg(frozen.group, signal.SIGCONT)
                    slot.unlink()
            time.sleep(0.05)  # between two looks
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _is_migrated(servers: OwnServers) -> bool:
    with servers.connect() as connection:
        found = connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.saga"]).fetchone()
        return found is not None and found[0] is not None
