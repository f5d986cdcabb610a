"""A stay at a lodge, where two others work further down: they see the room, or the fire, or both."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from internals import Context, Work
from saga import Command, Event, Saga, Step
from tests.boundary.worlds.deadline_saga import ONCE, Port


class Stay(BaseModel):
    n: int = 1


class Book(Command, kind="lodge.book"):
    n: int


class Booked(Event, kind="lodge.booked"):
    pass


class Lit(Event, kind="lodge.lit"):
    pass


class Cleaned(Event, kind="maids.cleaned"):
    pass


def misread(stay: Stay, event: Cleaned) -> Stay:
    raise ZeroDivisionError("how many rooms?")


ROOM: Step[Stay, Cleaned] = Step("room", lambda stay: Book(n=stay.n), until=Cleaned)
STAY = Saga("stay", Stay, (ROOM,))
#: What a release with a bug makes of the outcome.
MISREAD = Saga("stay", Stay, (replace(ROOM, on_success=misread),))


class Lodge(Port):
    """The lodge; whoever is ill fails for good at once."""

    def open(  # type: ignore[override]
        self, *ill: str, cooks_see: type[Event] = Lit, misread: bool = False
    ) -> None:
        lodge, maids, cooks = Context("lodge"), Context("maids"), Context("cooks")

        @lodge.handles(Book, emits=(Booked, Lit))
        def book(command: Book, work: Work) -> None:
            work.publish(Booked())
            work.publish(Lit())

        @maids.reacts_to(Booked, emits=(Cleaned,), retry=ONCE)
        def clean(event: Booked, work: Work) -> None:
            if "maids" in ill:
                raise ValueError("ill")
            self.done.append("maids")
            work.publish(Cleaned())

        @cooks.reacts_to(cooks_see, retry=ONCE)
        def cook(event: Event, work: Work) -> None:
            if "cooks" in ill:
                raise ValueError("ill")
            self.done.append("cooks")

        self.saga = MISREAD if misread else STAY
        self.runtime = self._make([self.saga], [lodge, maids, cooks])
        self.runtime.subscribe()

    def stay(self) -> UUID:
        """Start one, and let everyone do what they can."""
        with self.runtime.engine.begin() as connection:
            id = self.runtime.start(connection, self.saga, Stay())
        self.settle()
        return id

    def parked(self) -> dict[str, Any]:
        """The parked message of each consumer that has one."""
        rows = self.rows("SELECT consumer, message_id FROM inbox WHERE state = 'parked'")
        return {row["consumer"]: row["message_id"] for row in rows}
