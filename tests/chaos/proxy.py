"""A TCP proxy between the processes under test and a server, which misbehaves on schedule.

It delays, resets, blackholes (takes bytes, passes none on, and resets after a while), and cuts a
connection after the server answered a COMMIT and before the client hears it.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.frontend import Frontend
from tests.chaos.tally import Tally

COMMIT_CUT = "commit_answer_cut"
_CHUNK = 1 << 16
_DELAYS = (0.05, 0.5)
_BLACKHOLES = (1.0, 4.0)
#: Of so many COMMITs one is cut at most: on a slow machine nothing would ever be done otherwise.
_COMMITS = 8
#: How the server's word for a commit ends its message.
_COMMITTED = b"COMMIT\0"
#: The server's "ready for query", before the byte that tells of the transaction.
_READY = b"Z\0\0\0\5"

#: Low and high of the seconds between two strikes.
Every = tuple[float, float]


class Schedule:
    """When each fault is due next; the same for a seed, as far as time repeats."""

    def __init__(self, every: Mapping[str, Every], tally: Tally, seed: str) -> None:
        self._every = every
        self._tally = tally
        self.random = random.Random(seed)
        now = time.monotonic()
        self._next = {fault: now + self.random.uniform(0, low) for fault, (low, _) in every.items()}
        self._commits = 0

    def due(self, fault: str) -> bool:
        """Whether this fault is to strike now; moves it on if so."""
        now = time.monotonic()
        if now < self._next.get(fault, float("inf")) or not self._tally.stormy:
            return False
        self._next[fault] = now + self.random.uniform(*self._every[fault])
        return True

    def cuts(self) -> bool:
        """Whether the answer to the COMMIT that comes now is to be cut."""
        self._commits += 1
        if self._commits < _COMMITS or not self.due(COMMIT_CUT):
            return False
        self._commits = 0
        return True

    def struck(self, fault: str) -> None:
        """Count a strike."""
        self._tally.struck(fault)


class Proxy:
    """Forwards to the server whose port stands in a file, since a restart may change it."""

    def __init__(self, server: str, kind: str, folder: Path, schedule: Schedule) -> None:
        self._kind = kind
        self._port = folder / f"{server}.port"
        self.schedule = schedule

    async def serve(self) -> int:
        """Listen on a port of its own and return it."""
        listening = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        return int(listening.sockets[0].getsockname()[1])

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(
                "127.0.0.1", int(self._port.read_text())
            )
        except (OSError, ValueError):
            _reset(to_client)
            return
        link = _Link(self._kind, self.schedule, to_client, to_server)
        both = [
            asyncio.create_task(link.pump(client, to_server, from_client=True)),
            asyncio.create_task(link.pump(server, to_client, from_client=False)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            return  # the run is over
        finally:
            for task in both:
                task.cancel()
            link.end()


class _Link:
    """One connection, both ways."""

    def __init__(
        self,
        kind: str,
        schedule: Schedule,
        to_client: asyncio.StreamWriter,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._kind = kind
        self._schedule = schedule
        self._ends = (to_client, to_server)
        self._frontend = Frontend() if kind == "postgres" else None
        self._dark_until = 0.0
        self._cutting = False
        self._rude = False

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """Forward until one side ends, or a fault ends it."""
        try:
            while data := await reader.read(_CHUNK):
                if not from_client and self._cutting and await self._cut(reader, data):
                    return
                if from_client and self._frontend is not None and self._frontend.feed(data):
                    self._cutting = self._schedule.cuts()
                if not self._cutting and await self._suffer():
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    async def _cut(self, reader: asyncio.StreamReader, answer: bytes) -> bool:
        """Swallow the whole answer to a COMMIT; the connection ends by that."""
        while answer[-6:-1] != _READY:
            if not (more := await reader.read(_CHUNK)):
                break
            answer += more
        self._rude = True
        if _COMMITTED in answer:
            self._schedule.struck(COMMIT_CUT)
        return True

    async def _suffer(self) -> bool:
        """Let what is due strike this connection; whether it ends by that."""
        if (left := self._dark_until - time.monotonic()) > 0:
            await asyncio.sleep(left)
            return True
        rng = self._schedule.random
        if self._strikes("delayed"):
            await asyncio.sleep(rng.uniform(*_DELAYS))
        if self._strikes("reset"):
            self._rude = True
            return True
        if self._strikes("blackholed"):
            seconds = rng.uniform(*_BLACKHOLES)
            self._dark_until = time.monotonic() + seconds
            await asyncio.sleep(seconds)
            self._rude = True
            return True
        return False

    def _strikes(self, what: str) -> bool:
        fault = f"{self._kind}_{what}"
        if not self._schedule.due(fault):
            return False
        self._schedule.struck(fault)
        return True

    def end(self) -> None:
        """Close both ends; with a reset if a fault ended it."""
        for end in self._ends:
            if self._rude:
                _reset(end)
            else:
                end.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: the peer gets an error and not an end."""
    held = writer.get_extra_info("socket")
    if held is not None:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _serve(folder: Path, every: Mapping[str, Every], seed: int) -> None:
    tally = Tally(folder)
    ports = {}
    for server in sorted(path.stem for path in folder.glob("*.port")):
        schedule = Schedule(every, tally, f"{seed}/{server}")
        kind = "redis" if server == "redis" else "postgres"
        ports[server] = await Proxy(server, kind, folder, schedule).serve()
    sys.stdout.write(f"{json.dumps(ports)}\n")
    sys.stdout.flush()
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()  # ends when whoever started this is gone
        loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=wait, daemon=True).start()
    await gone.wait()


def main() -> None:
    """Serve both servers' ports, and print them, until the standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("every", type=json.loads)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.folder, given.every, given.seed))


if __name__ == "__main__":
    main()
