"""The partner: an HTTP server outside of everything that acts once for each idempotency key.

It answers late, twice or never; connections are cut before or after what they are to do is done,
or it is done long after the caller gave up.  An undo names the key of what it undoes: if that has
not come, it will not be done when it comes.  Its log is append-only and synced before each answer.
"""

import argparse
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.chaos.tally import Tally

CUT_BEFORE, CUT_AFTER = "call_cut_before_effect", "call_cut_after_effect"
LATE, NEVER, TWICE = "answer_late", "answer_never", "call_made_twice"
EFFECT_LATE = "effect_after_caller_gave_up"

#: Each meets one call in so many.
FAULTS = (CUT_BEFORE, CUT_AFTER, LATE, NEVER, TWICE, EFFECT_LATE)
_RARITY = 25

#: Seconds that an answer is late, that none comes, and that what is to be done is late.
_LATE, _NEVER, _EFFECT_LATE = (1.5, 4.0), 12.0, (5.0, 9.0)


@dataclass(frozen=True, slots=True)
class Order:
    """One line of the log: an order that arrived, and what came of it."""

    #: What it is an idempotency key for.
    key: str
    #: do or undo
    op: str
    #: The trip and the step.
    trip: str
    step: str
    cents: int
    #: The key of what it undoes, if the caller was told.
    undoes: str | None
    #: done; refused; void, where it was undone before it came; repeat, where the key was there
    #: before; nothing, where there was nothing left to undo
    outcome: str


def read_orders(log: Path) -> Iterator[Order]:
    """Iterate over what the partner was ordered."""
    if log.exists():
        for line in log.read_text().splitlines():
            yield Order(**json.loads(line))


class Ledger:
    """What the partner did, and for which key."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="ascii")
        self._accepted: dict[str, bool] = {}
        #: Keys of what was done and not undone, and of what was undone before it came.
        self._standing: set[str] = set()
        self._void: set[str] = set()
        self._turn = threading.Lock()

    def take(self, order: dict[str, Any]) -> bool:
        """Act once for each key, and write every order down; returns whether it was accepted."""
        key, refuse = order["key"], order.pop("refuse")
        with self._turn:
            outcome = "repeat" if key in self._accepted else self._act(order, refuse=refuse)
            accepted = self._accepted.setdefault(key, outcome in ("done", "nothing"))
            line = asdict(Order(**order, outcome=outcome))
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()
            os.fsync(self._log.fileno())
            return accepted

    def close(self) -> None:
        self._log.close()

    def _act(self, order: dict[str, Any], *, refuse: bool) -> str:
        key, undoes = order["key"], order["undoes"]
        if order["op"] == "do":
            if key in self._void:
                return "void"
            if refuse:
                return "refused"
            self._standing.add(key)
            return "done"
        if undoes is None or undoes in self._standing:
            self._standing.discard(undoes)
            return "done"
        self._void.add(undoes)
        return "nothing"


class PartnerServer(ThreadingHTTPServer):
    """The server, on a port of its own; `url` tells where."""

    daemon_threads = False  # what is late is done before it closes
    request_queue_size = 256

    def __init__(self, log: Path, tally: Tally, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ledger = Ledger(log)
        self.random = random.Random(f"{seed}/partner")
        self.over = threading.Event()
        self._tally = tally
        self._absent = list(FAULTS)
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self) -> str | None:
        """Return what this call meets."""
        if not self._tally.stormy:
            return None
        with self._turn:
            if self.random.random() > len(FAULTS) / _RARITY:
                return None
            fault = self._absent.pop() if self._absent else self.random.choice(FAULTS)
        self._tally.struck(fault)
        return fault

    def server_close(self) -> None:
        self.over.set()
        super().server_close()
        self.ledger.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: PartnerServer

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, fault = self.server, self.server.fault()
        self.close_connection = True
        if fault == CUT_BEFORE:
            return
        if fault == EFFECT_LATE:
            server.over.wait(server.random.uniform(*_EFFECT_LATE))
        if fault == TWICE:
            server.ledger.take(dict(order))
        accepted = server.ledger.take(order)
        if fault == LATE:
            server.over.wait(server.random.uniform(*_LATE))
        if fault == NEVER:
            server.over.wait(_NEVER)
        if fault not in (CUT_AFTER, NEVER):
            for _ in range(2 if fault == TWICE else 1):
                self._answer(accepted=accepted)

    def log_message(self, format: str, *args: object) -> None:
        """Its own log is the one that counts."""

    def _answer(self, *, accepted: bool) -> None:
        body = json.dumps({"accepted": accepted}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until the standard input ends, which it does when whoever started this is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    server = PartnerServer(given.folder / "partner.jsonl", Tally(given.folder), given.seed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
