"""Vehicles whose moves a board shows in order, and an order of billing that splits."""

from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection

from boundary import Runtime
from internals import Context, Work
from internals.database.unit_of_work import joined
from internals.ids import uuid7
from saga import Category, Command, Envelope, Event, Retry, Saga, Step

WHY = "mended"


class Moved(Event, kind="fleet.moved"):
    truck: str | None
    to: int


class Drive(Command, kind="fleet.drive"):
    truck: str
    places: tuple[int, ...]


class Split(Command, kind="billing.split"):
    trucks: int


class Board:
    """A context that notes where each truck is said to be.

    Args:
        runtime: Makes the runtime.
        outside: A connection that sees what is committed.
        until: What ends the step of its saga.

    Attributes:
        broken: What it cannot note: truck and place.
    """

    def __init__(
        self, runtime: Any, outside: psycopg.Connection[Any], *, until: Any = None
    ) -> None:
        self.outside = outside
        self.broken: set[tuple[str | None, int]] = set()
        outside.execute(
            "CREATE TABLE noted (id bigint GENERATED ALWAYS AS IDENTITY, truck text, place int)"
        )
        board, fleet, billing = Context("board"), Context("fleet"), Context("billing")

        @fleet.handles(Drive, emits=(Moved,))
        def drive(command: Drive, work: Work) -> None:
            for place in command.places:
                work.publish(Moved(truck=command.truck, to=place))

        @board.reacts_to(Moved, ordered_by="truck", retry=Retry(attempts=1))
        def note(event: Moved, work: Work) -> None:
            if (event.truck, event.to) in self.broken:
                raise RuntimeError(f"{event.truck} is not found")
            work.execute(
                "INSERT INTO noted (truck, place) VALUES (%(truck)s, %(place)s)",
                {"truck": event.truck, "place": event.to},
            )

        @billing.handles(Split, emits=(Moved,))
        def split(command: Split, work: Work) -> None:
            for n in range(command.trucks):
                work.publish(Moved(truck=f"t{n}", to=n))

        split_up: Step[Split, Any] = Step("split", lambda split: split)
        self.fan_out: Saga[Split] = Saga("fan_out", Split, steps=(split_up,))
        drives: Step[Drive, Any] = Step("drive", lambda drive: drive, until=until)
        self.journey: Saga[Drive] = Saga("journey", Drive, steps=(drives,))
        self.runtime: Runtime = runtime([self.journey, self.fan_out], [board, fleet, billing])
        self.runtime._administration.subscribe_once()

    def publish(self, truck: str | None, *places: int) -> list[UUID]:
        with self.runtime.engine.begin() as connection:
            moved = (Moved(truck=truck, to=place) for place in places)
            return [self.runtime.publish(connection, event) for event in moved]

    def send(self, connection: Connection, *events: Moved) -> None:
        """Publish all of them by one statement."""
        self.runtime._wiring.outbox_of(1000).send(
            joined(connection), [envelope(event) for event in events]
        )

    def answer(self) -> None:
        while self.runtime.answer("board"):
            pass

    def noted(self, truck: str | None = "red") -> list[int]:
        rows = self.outside.execute(
            "SELECT place FROM noted WHERE truck IS NOT DISTINCT FROM %s ORDER BY id", [truck]
        )
        return [place for (place,) in rows]

    def parked(self) -> list[UUID]:
        rows = self.outside.execute("SELECT message_id FROM inbox WHERE state = 'parked'")
        return [id for (id,) in rows]

    def held_up(self) -> int:
        [(count,)] = self.outside.execute(
            "SELECT count(*) FROM inbox WHERE state = 'pending' AND wait_reason = 'ordering'"
        )
        return int(count)


def envelope(event: Moved) -> Envelope:
    id = uuid7()
    payload = event.to_json()
    return Envelope(id=id, kind=event.kind, category=Category.EVENT, payload=payload, root_id=id)
