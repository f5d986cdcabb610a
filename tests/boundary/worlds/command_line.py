"""What the tests of the command line share: how it is run, and a shop whose orders can be handled."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text

from boundary import Runtime
from tests.boundary.worlds import shop

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("saga")
NOWHERE = "postgresql://agent:hidden@127.0.0.1:1/shop"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.code == 0, self.err
        return self.printed

    @property
    def printed(self) -> Any:
        """The document, whatever the exit code."""
        assert "Traceback" not in self.err
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """What it says on stderr: one line, and nothing on stdout."""
        assert self.out == ""
        assert "Traceback" not in self.err
        [line] = self.err.splitlines()
        assert line.startswith("saga: ")
        return line.removeprefix("saga: ")


class Orders:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def place(self, number: str, **order: Any) -> UUID:
        with self.runtime.engine.begin() as connection:
            data = shop.Order(number=number, **order)
            return self.runtime.start(connection, shop.CHECKOUT, data)

    def handle(self, *consumers: str) -> None:
        while sum(
            self.runtime.answer(name) for name in consumers or self.runtime._wiring.consumers
        ):
            pass

    def place_all(self) -> dict[str, UUID]:
        """One order for each way in which one can end, and one that nobody has looked at."""
        ids = {
            "done": self.place("done", gift=True),
            "undone": self.place("undone", cents=5000),
            "stuck": self.place("stuck", cents=13),
        }
        self.handle()
        return ids | {"waiting": self.place("waiting")}

    def stuck(self, count: int) -> list[UUID]:
        """So many orders that the bank cannot handle: stuck-0, stuck-1 and so on."""
        ids = [self.place(f"stuck-{number}", cents=13) for number in range(count)]
        self.handle()
        return ids

    def statuses(self) -> dict[str, str]:
        """The status of each saga, by key."""
        return dict(self.rows("SELECT key, status FROM saga"))

    def audit(self) -> list[tuple[Any, ...]]:
        """Who did what and why, in order."""
        return self.rows("SELECT actor, act, reason FROM audit ORDER BY seq")

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables, to see that none has changed."""
        names = ("saga", "outbox", "inbox", "audit")
        return {name: self.rows(f"SELECT t::text FROM {name} AS t ORDER BY 1") for name in names}

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.runtime.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]
