"""Parcels to be signed for, and a shop, to act on."""

from typing import Any
from uuid import UUID

from tests.boundary.worlds import waiting_app
from tests.boundary.worlds.command_line import Orders

WHY = "the bank speaks again"


HEAL = ["--data", '{"cents": 100}']


class Parcels(Orders):
    def place(self, number: str, **data: Any) -> UUID:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(
                connection, waiting_app.PARCEL, waiting_app.Parcel(number=number, **data)
            )

    def signals(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT id, kind FROM outbox WHERE kind LIKE 'door.%'")
