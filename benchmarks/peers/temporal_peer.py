"""Temporal as a peer: its dev server, and a worker in a process of its own.

The dev server keeps its state in memory, so it does less than any that would be run in earnest; what
Postgres counts of it are the steps' own inserts.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.peer import database_url
from benchmarks.peers.program import Program, program
from boundary import Settings


def temporal_binary() -> str | None:
    """Return where Temporal's command line is, which has the dev server; None if it is not there."""
    return shutil.which("temporal", path=Path(sys.executable).parent) or shutil.which("temporal")


@dataclass(frozen=True, slots=True)
class TemporalPeer:
    """The dev server, and one worker."""

    name: str = "temporal"
    configuration: str = "its dev server, state in memory; one worker, 16 activities at once"
    share: float = 0.05

    @contextmanager
    def run(self, settings: Settings) -> Iterator[Program]:
        with _dev_server() as (address, server):
            environment = {
                "BENCH_DATABASE_URL": database_url(settings),
                "BENCH_TEMPORAL": address,
            }
            with program("benchmarks.peers.temporal_program", environment, [server]) as running:
                yield running


@contextmanager
def _dev_server() -> Iterator[tuple[str, psutil.Process]]:
    binary = temporal_binary()
    assert binary is not None
    port = _free_port()
    command = [binary, "server", "start-dev", "--headless", "--log-level", "never"]
    command += ["--ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - the dev server that was asked for
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
