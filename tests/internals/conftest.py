"""A message store to put deliveries into and look at, and a ledger of effects."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, text

from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from internals.database.connections import SqlAlchemyDatabase
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import BATCH, drain, hop
from internals.hop.batch_writer import BatchWriter
from internals.hop.consumer import Handled
from internals.hop.context_consumer import ContextConsumer
from internals.hop.lease_heartbeat import Heartbeat
from internals.hop.time_limits import Watch
from internals.ids import uuid7
from internals.store.delivery import SUSPECT_RINGS
from internals.store.inbox import Inbox
from internals.store.outbox import Outbox
from internals.store.sql import statements
from internals.store.subscriptions import subscribe
from saga import Category, Command, Envelope, Event, Retry
from saga.envelope import command_recipient

Row = dict[str, Any]

#: Seconds that what a test has begun may take to end.
CLOSING = 60.0


class Store:
    """The message store of one test."""

    def __init__(self, engine: Engine, schema: str, outside: psycopg.Connection[Any]) -> None:
        self.engine = engine
        self.database = SqlAlchemyDatabase(engine)
        self.schema = schema
        self.statements = statements(schema)
        self.outbox = Outbox(self.statements, grace=1.0, max_payload=10_000)
        self._outside = outside
        self.watch = Watch()
        self.heartbeat = Heartbeat(self.statements)

    # What tests put in

    def send(self, *messages: Envelope) -> set[str]:
        """Commit these messages with their deliveries; returns the consumers that got one."""
        with self.engine.begin() as connection:
            return self.outbox.send(SqlAlchemyUnitOfWork(connection), messages)

    def subscribe(self, *contexts: Context) -> None:
        with self.engine.begin() as connection:
            subscribe(SqlAlchemyUnitOfWork(connection), self.statements, contexts)

    def make_due(self) -> None:
        """Let the waits of all pending deliveries be over."""
        self._outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")

    def make_late(self) -> None:
        """Let the relay's next look at all pending deliveries be due."""
        self._outside.execute("UPDATE inbox SET ring_at = now() WHERE state = 'pending'")

    def end(self, state: str) -> None:
        """Let all deliveries be over, in this state."""
        outcome = {"done": "handled", "revoked": "undone", "parked": "failed"}[state]
        self._outside.execute(
            "UPDATE inbox SET state = %s, outcome = %s, last_error = 'x'", (state, outcome)
        )

    @contextmanager
    def transaction(self) -> Iterator[SqlAlchemyUnitOfWork]:
        """A transaction that is rolled back in the end, as a killed worker's is."""
        with self.engine.connect() as connection, connection.begin() as transaction:
            yield SqlAlchemyUnitOfWork(connection)
            transaction.rollback()

    def suspect(self, message: Envelope) -> None:
        """Let a delivery have been rung for so often that it may be what kills its workers."""
        self._outside.execute(
            "UPDATE inbox SET rings = %s WHERE message_id = %s", (SUSPECT_RINGS, message.id)
        )

    # Who runs it

    def inbox(self, consumer: str) -> Inbox:
        return Inbox(consumer, self.schema, self.statements)

    def consumer(self, context: Context, **options: Any) -> ContextConsumer:
        options = {"budget": 60.0, "first": BATCH, **options}
        options = {"watch": self.watch, "heartbeat": self.heartbeat, **options}
        inbox = self.inbox(context.name)
        writer = BatchWriter(inbox, self.outbox)
        return ContextConsumer(context, self.database, writer, **options)

    def hop(self, context: Context, limit: int = BATCH) -> Handled:
        return hop(self.database, self.consumer(context), limit)

    def hop_with(self, context: Context, **options: Any) -> Handled:
        return hop(self.database, self.consumer(context, **options))

    def drain(self, context: Context, limit: int = BATCH) -> int:
        """Handle all that is due; what it sends is not handled."""
        return drain(
            self.database, self.consumer(context), lambda _: None, limit=limit, time_slice=60.0
        )

    def drain_with(self, context: Context, **options: Any) -> int:
        """The same, by a consumer with these options."""
        consumer = self.consumer(context, **options)
        return drain(self.database, consumer, lambda _: None, time_slice=60.0)

    # What tests look at, through a connection that sees only what is committed

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        with self._outside.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def deliveries(self, consumer: str) -> list[Row]:
        """A consumer's deliveries, with kind and payload, in the order of sending."""
        return self.rows(
            "SELECT i.*, o.kind, o.payload FROM inbox i JOIN outbox o ON o.id = i.message_id "
            "WHERE consumer = %s ORDER BY o.seq",
            consumer,
        )

    def delivery(self, message: Envelope) -> Row:
        (found,) = self.rows("SELECT * FROM inbox WHERE message_id = %s", message.id)
        return found

    def sent(self, kind: str) -> list[Row]:
        return self.rows("SELECT * FROM outbox WHERE kind = %s ORDER BY seq", kind)

    def effects(self) -> list[int]:
        """The numbers in the ledger, sorted; one that happened twice is there twice."""
        return [row["n"] for row in self.rows("SELECT n FROM effect ORDER BY n")]

    def clock(self) -> Any:
        return self.rows("SELECT clock_timestamp() AS now")[0]["now"]


def effect(work: Work, n: int) -> None:
    """Write to the ledger, which has no constraint: done twice, it shows."""
    work.connection.execute(text("INSERT INTO effect VALUES (:n)"), {"n": n})


@pytest.fixture
def store(engine: Engine, schema: str, outside: psycopg.Connection[Any]) -> Iterator[Store]:
    outside.execute("CREATE TABLE effect (n int NOT NULL)")
    store = Store(engine, schema, outside)
    yield store
    store.heartbeat.stop(CLOSING)
    for thread in threading.enumerate():
        if thread.name == "saga-watch-one":
            thread.join(CLOSING)


@pytest.fixture
def note() -> Callable[[Work, int], None]:
    """Write a number to the ledger of effects in a handler's transaction."""
    return effect


@pytest.fixture
def command() -> Callable[..., Envelope]:
    """Make the envelope of a command as a saga sends it, or a host's if no saga is named."""

    def make(
        message: Command,
        *,
        saga: str | None = None,
        saga_id: UUID | None = None,
        awaits: Iterable[str] = (),
        retry: Retry | None = None,
    ) -> Envelope:
        id = uuid7()
        return Envelope(
            id=id,
            kind=message.kind,
            category=Category.COMMAND,
            payload=message.to_json(),
            saga_id=saga_id or (uuid4() if saga else None),
            saga=saga,
            root_id=id,
            recipient=command_recipient(message.kind),
            awaits=tuple(awaits),
            retry=retry,
        )

    return make


@pytest.fixture
def event() -> Callable[..., Envelope]:
    """Make the envelope of an event, outside any saga if none is named."""

    def make(message: Event, **fields: Any) -> Envelope:
        id = uuid7()
        usual: dict[str, Any] = {
            "id": id,
            "kind": message.kind,
            "category": Category.EVENT,
            "payload": message.to_json(),
            "root_id": id,
        }
        return Envelope(**usual | fields)

    return make


@pytest.fixture
def strike() -> Iterator[Callable[[Boundary, str, Exception], None]]:
    """Raise an error "before" or "after" the next commit at a boundary: once."""

    def set_up(boundary: Boundary, when: str, error: Exception) -> None:
        def call(at: Boundary, moment: str) -> None:
            if (at, moment) == (boundary, when):
                watch(None)
                raise error

        watch(call)

    yield set_up
    watch(None)
