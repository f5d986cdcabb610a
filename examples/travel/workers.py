"""Worker processes of the demo: started, killed for real, started again, and stopped."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: The folder that holds the package `examples`.
_ROOT = Path(__file__).parents[2]

#: Seconds that a worker may take to finish what it is doing when it is told to stop.
_PATIENCE = 15.0


class Workers:
    """A crew of `dramatiq` processes, one of which dies now and then.

    Args:
        count: How many there are at any time.
        environment: Set for each, on top of this process's own.
        log: Where what they print goes.
        seed: Decides which one is killed.
    """

    def __init__(self, count: int, environment: Mapping[str, str], log: Path, seed: int) -> None:
        self._count = count
        self._environment = {**os.environ, **environment}
        self._log = log
        self._random = random.Random(seed)
        self._crew: list[subprocess.Popen[bytes]] = []
        self.kills = 0

    def start(self) -> None:
        """Start all of them."""
        self._crew = [self._start_one() for _ in range(self._count)]

    def kill_one(self) -> None:
        """Kill a worker with SIGKILL, wherever it is in its work, and start another."""
        victim = self._random.randrange(len(self._crew))
        _signal(self._crew[victim], signal.SIGKILL)
        self._crew[victim].wait()
        self.kills += 1
        self._crew[victim] = self._start_one()

    def revive(self) -> int:
        """Start those again that ended by themselves; returns how many had."""
        dead = [i for i, worker in enumerate(self._crew) if worker.poll() is not None]
        for i in dead:
            self._crew[i] = self._start_one()
        return len(dead)

    def stop(self) -> None:
        """Tell all of them to stop, wait, and kill those that do not."""
        for worker in self._crew:
            _signal(worker, signal.SIGTERM)
        for worker in self._crew:
            try:
                worker.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                _signal(worker, signal.SIGKILL)
                worker.wait()
        self._crew = []

    def _start_one(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dramatiq", "examples.travel.worker"]
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                [*command, "--processes", "1", "--threads", "4"],
                cwd=_ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # one group to kill, and Ctrl-C is ours alone
            )


def _signal(worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal: SIGKILL to the worker's whole group, others to its main process."""
    try:
        if number is signal.SIGKILL:
            os.killpg(worker.pid, number)
        else:
            worker.send_signal(number)
    except ProcessLookupError:
        pass  # it ended before
