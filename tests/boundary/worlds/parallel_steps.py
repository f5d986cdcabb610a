"""Removals: a van is loaded, then a call and a drive together; and an office that sees to them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

from boundary import Runtime
from boundary.operations.consistency import differences
from internals import Context, Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.ids import uuid7
from saga import Category, Command, Envelope, Event, Message, Parallel, Rejected, Saga, Step

Row = dict[str, Any]


class Move(BaseModel):
    n: int
    note: str = ""


class Load(Command, kind="van.load"):
    n: int


class Loaded(Event, kind="van.loaded"):
    n: int
    note: str = ""


class Unload(Command, kind="van.unload"):
    n: int


class Drive(Command, kind="van.drive"):
    n: int


class Call(Command, kind="phone.call"):
    n: int


def keep(move: Move, outcome: Loaded) -> Move:
    return move.model_copy(update={"note": outcome.note})


def moving(*, version: int = 1, on_success: Callable[[Any, Any], Any] = keep) -> Saga[Move]:
    return Saga(
        name="moving",
        version=version,
        data=Move,
        steps=(
            Step(
                "load",
                lambda move: Load(n=move.n),
                until=Loaded,
                on_success=on_success,
                compensation=lambda move: Unload(n=move.n),
            ),
            Parallel(
                Step("call", lambda move: Call(n=move.n)),
                Step("drive", lambda move: Drive(n=move.n)),
            ),
        ),
    )


MOVING = moving()
CONSUMER = "saga.moving"


def contexts(refuse: Callable[[int], bool] = lambda _: False) -> list[Context]:
    van, phone = Context("van"), Context("phone")

    @van.handles(Load, emits=(Loaded,))
    def load(command: Load, work: Work) -> None:
        work.publish(Loaded(n=command.n, note=f"loaded {command.n}"))

    @van.handles(Drive)
    def drive(command: Drive, work: Work) -> None:
        if refuse(command.n):
            raise Rejected("the road is closed")

    @van.handles(Unload)
    def unload(command: Unload, work: Work) -> None: ...

    @phone.handles(Call)
    def call(command: Call, work: Work) -> None: ...

    return [van, phone]


class Office:
    """What the tests do to a runtime, and what they see of it."""

    def __init__(self, runtime: Runtime, outside: psycopg.Connection[Any]) -> None:
        self.runtime = runtime
        self._outside = outside

    def start(self, *numbers: int, saga: Saga[Move] = MOVING) -> list[UUID]:
        with self.runtime.engine.begin() as connection:
            moves = [Move(n=n) for n in numbers]
            return list(self.runtime.start_many(connection, saga, moves))

    def start_with(self, saga: Saga[Any], data: Any) -> UUID:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, saga, data)

    def send(self, *messages: Envelope) -> None:
        with self.runtime.engine.begin() as connection:
            self.runtime._wiring.outbox.send(SqlAlchemyUnitOfWork(connection), messages)

    def settle(self) -> None:
        """Let everyone work until nobody has anything due."""
        while sum(self.runtime.answer(consumer) for consumer in self.runtime._wiring.consumers):
            pass

    def make_due(self) -> None:
        self._outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        with self._outside.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def saga(self, id: UUID) -> Row:
        (row,) = self.rows("SELECT * FROM saga WHERE id = %s", id)
        return row

    def delivery(self, message: Envelope) -> Row:
        (row,) = self.rows("SELECT * FROM inbox WHERE message_id = %s", message.id)
        return row

    def deliveries(self, consumer: str = CONSUMER) -> list[Row]:
        return self.rows(
            "SELECT i.*, o.kind FROM inbox i JOIN outbox o ON o.id = i.message_id "
            "WHERE consumer = %s AND kind <> 'saga.started' ORDER BY o.seq",
            consumer,
        )

    def command_of(self, saga_id: UUID, kind: str) -> UUID:
        (row,) = self.rows("SELECT id FROM outbox WHERE saga_id = %s AND kind = %s", saga_id, kind)
        found: UUID = row["id"]
        return found

    def check_history(self) -> None:
        """A saga's consumed messages, folded, are its stored state."""
        with self.runtime.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            found = differences(unit, self.runtime._wiring.statements, self.runtime._wiring.sagas)
            assert list(found) == []


def reply(saga_id: UUID, message: Message, *, root: UUID, cause: UUID | None = None) -> Envelope:
    return Envelope(
        id=uuid7(),
        kind=message.kind,
        category=Category.REPLY,
        payload=message.to_json(),
        saga_id=saga_id,
        saga="moving",
        causation_id=cause or root,
        root_id=root,
        recipient=CONSUMER,
        sender="van",
    )


@contextmanager
def held(office: Office, id: UUID) -> Iterator[None]:
    """Another transaction holds the saga's row."""
    with office.runtime.engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("SELECT * FROM saga WHERE id = %(id)s FOR UPDATE", {"id": id})
        yield
        transaction.rollback()
