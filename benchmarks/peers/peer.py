"""Peer: somebody who does the workload, in processes of their own, on the same servers."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

import psutil
import psycopg
from sqlalchemy import make_url

from boundary import Settings

#: What a saga leaves in the ledger, whether its third step refuses or not.
EFFECTS = {
    False: ("first", "second", "third"),
    True: ("first", "first undone", "second", "second undone"),
}


class Lost(Exception):
    """A peer did not do what it was given, or did it twice."""


class Running(Protocol):
    """A peer at work."""

    @property
    def processes(self) -> Sequence[psutil.Process]:
        """Its processes, which all of its others are children of."""

    def busy(self, count: int, refused: bool) -> Sequence[UUID]:
        """Do so many sagas, all of them started at once; returns their ids when all have ended."""

    def idle(self, count: int, refused: bool) -> tuple[Sequence[UUID], Sequence[float]]:
        """Do so many sagas one after the other; returns their ids, and the seconds of each."""


class Peer(Protocol):
    """One peer in one configuration."""

    @property
    def name(self) -> str:
        """By which it is told from the others."""

    @property
    def configuration(self) -> str:
        """In words, for the report."""

    @property
    def share(self) -> float:
        """Sagas of a busy run for each of the fastest's: a slow peer is given fewer."""

    def run(self, settings: Settings) -> AbstractContextManager[Running]:
        """Start it in this schema; it is stopped in the end."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The table that all peers write to."""

    connection: psycopg.Connection[tuple[object, ...]]

    def count(self, order_ids: Sequence[UUID], what: str) -> int:
        """Return how many of these orders have got so far."""
        row = self.connection.execute(
            "SELECT count(*) FROM effect WHERE order_id = ANY (%s) AND what = %s",
            (list(order_ids), what),
        ).fetchone()
        assert row is not None
        return int(str(row[0]))

    def check(self, order_ids: Sequence[UUID], refused: bool) -> None:
        """Raise `Lost` unless each effect of each order is there exactly once."""
        rows = self.connection.execute(
            "SELECT order_id, array_agg(what ORDER BY what) FROM effect "
            "WHERE order_id = ANY (%s) GROUP BY 1",
            (list(order_ids),),
        ).fetchall()
        wrong = [row for row in rows if tuple(row[1]) != EFFECTS[refused]]  # type: ignore[arg-type]
        if wrong or len(rows) != len(set(order_ids)):
            raise Lost(f"{len(rows)} of {len(order_ids)} sagas left effects, {len(wrong)} wrongly")


def ledger(settings: Settings) -> psycopg.Connection[tuple[object, ...]]:
    """Return a connection in autocommit mode that sees this schema's tables first."""
    return psycopg.connect(database_url(settings), autocommit=True)


def database_url(settings: Settings) -> str:
    """Return the URL as libpq takes it, with the schema of this run in front."""
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
    found = url.update_query_dict({"options": f"-csearch_path={settings.db_schema}"})
    return found.render_as_string(hide_password=False)


def new_orders(count: int) -> list[UUID]:
    return [uuid4() for _ in range(count)]


def family(process: psutil.Process) -> Iterator[psutil.Process]:
    """A process and all that came of it."""
    yield process
    yield from process.children(recursive=True)
