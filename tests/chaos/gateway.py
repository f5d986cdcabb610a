"""The gateway: a tiny HTTP server outside of everything, which charges and never forgets.

Its log is append-only and synced before each answer; it is never killed while a run lasts.  Now
and then it loses an answer after it acted, or says that it is busy before it does.
"""

import argparse
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.chaos.tally import Tally

#: Faults of the gateway, and after how many calls, at most, one meets them for the first time, and
#: again: few calls get there while workers are killed.
ANSWER_LOST, BUSY = "gateway_answer_lost", "gateway_busy"
_FIRST = 8
_RARITY = 40


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the log: a call that reached the gateway and was acted on."""

    key: str
    trip: str
    cents: int
    accepted: bool
    #: Whether the same key was there before, so that nothing was charged again.
    repeat: bool


def read_calls(log: Path) -> Iterator[Call]:
    """Iterate over what the gateway did."""
    if log.exists():
        for line in log.read_text().splitlines():
            yield Call(**json.loads(line))


class Gateway(ThreadingHTTPServer):
    """The server, on a port of its own; `url` tells where."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, log: Path, tally: Tally, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._tally = tally
        self._random = random.Random(f"{seed}/gateway")
        self._known: dict[str, bool] = {}
        self._calls_until = {
            fault: self._random.randint(1, _FIRST) for fault in (ANSWER_LOST, BUSY)
        }
        self._log = log.open("a", encoding="ascii")
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def charge(self, key: str, trip: str, cents: int, refuse: bool) -> bool:
        """Charge once for each key, and write every call down before it is answered."""
        with self._turn:
            repeat = key in self._known
            accepted = self._known.setdefault(key, not refuse)
            line = {"key": key, "trip": trip, "cents": cents, "accepted": accepted}
            self._log.write(json.dumps({**line, "repeat": repeat}) + "\n")
            self._log.flush()
            os.fsync(self._log.fileno())
            return accepted

    def strikes(self, fault: str) -> bool:
        """Whether this call meets this fault."""
        with self._turn:
            self._calls_until[fault] -= 1
            if self._calls_until[fault] > 0 or not self._tally.stormy:
                return False
            self._calls_until[fault] = self._draw()
        self._tally.struck(fault)
        return True

    def _draw(self) -> int:
        return self._random.randint(1, _RARITY)

    def server_close(self) -> None:
        super().server_close()
        self._log.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.strikes(BUSY):
            self.send_error(503)
            return
        accepted = self.server.charge(**order)
        if self.server.strikes(ANSWER_LOST):
            self.close_connection = True
            return
        body = json.dumps({"accepted": accepted}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Its own log is the one that counts."""


def main() -> None:
    """Serve until the standard input ends, which it does when whoever started this is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    gateway = Gateway(given.folder / "gateway.jsonl", Tally(given.folder), given.seed)
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    sys.stdout.write(f"{gateway.url}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
