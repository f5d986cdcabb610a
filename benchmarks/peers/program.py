"""Program: a peer's process, which is told what to do on its standard input and answers alike.

Each line is a JSON object: ``orders``, ``refused`` and ``idle`` one way; the other way ``seconds`` of each
order where they are done one by one, and nothing where they are done at once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from benchmarks.peers.peer import Lost, new_orders

_ROOT = Path(__file__).parents[2]

#: Seconds that it may take to end when its input does.
_PATIENCE = 20.0


@contextmanager
def program(
    module: str, environment: Mapping[str, str], servers: Sequence[psutil.Process] = ()
) -> Iterator["Program"]:
    """Start a module and wait until it is ready; it ends with the block.

    Args:
        module: Its name; it answers once when it is ready.
        environment: What it is told besides ours.
        servers: Processes that work for this peer alone.
    """
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", module],
        cwd=_ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        running = Program(module, process, servers)
        try:
            running.hear()
            yield running
        finally:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, which was told
                process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True, slots=True)
class Program:
    """A peer at work."""

    module: str
    popen: "subprocess.Popen[str]"
    servers: Sequence[psutil.Process]

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(self.popen.pid), *self.servers]

    def busy(self, count: int, refused: bool) -> Sequence[UUID]:
        orders = new_orders(count)
        self._ask(orders, refused, idle=False)
        return orders

    def idle(self, count: int, refused: bool) -> tuple[Sequence[UUID], Sequence[float]]:
        orders = new_orders(count)
        return orders, self._ask(orders, refused, idle=True)["seconds"]

    def hear(self) -> dict[str, Any]:
        """Return its next answer; raises `Lost` if it has ended."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise Lost(f"{self.module} ended with status {self.popen.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, orders: Sequence[UUID], refused: bool, *, idle: bool) -> dict[str, Any]:
        assert self.popen.stdin is not None
        asked = {"orders": [str(order) for order in orders], "refused": refused, "idle": idle}
        with suppress(BrokenPipeError):  # it has ended: there is nothing to hear then
            self.popen.stdin.write(json.dumps(asked) + "\n")
            self.popen.stdin.flush()
        return self.hear()
