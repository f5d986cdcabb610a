"""A mill with books of its own: it has another database than the bakery that orders from it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary import Runtime
from boundary.operations.consistency import differences
from internals import Context, Work
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import SqlAlchemyDatabase
from internals.database.unit_of_work import joined
from saga import Command, Event, Rejected, Retry, Saga, Step
from saga.messages import Replayed

Row = dict[str, Any]


class Loaf(BaseModel):
    n: int
    note: str = ""


class Grind(Command, kind="mill.grind"):
    n: int


class Spill(Command, kind="mill.spill"):
    n: int


class Ground(Event, kind="mill.ground"):
    n: int
    note: str


class Bake(Command, kind="oven.bake"):
    n: int


class Sown(Event, kind="farm.sown"):
    field: str
    n: int


def act_nothing(command: Grind, work: Work) -> None:
    """Do nothing beside the milling."""


def bread(**flour: Any) -> Saga[Loaf]:
    """Flour from the mill, then the oven."""
    return Saga(
        "bread",
        Loaf,
        key=lambda loaf: str(loaf.n),
        steps=(
            Step(
                "flour",
                lambda loaf: Grind(n=loaf.n),
                until=Ground,
                on_success=lambda loaf, event: loaf.model_copy(update={"note": event.note}),
                compensation=lambda loaf: Spill(n=loaf.n),
                **flour,
            ),
            Step("bake", lambda loaf: Bake(n=loaf.n)),
        ),
    )


BREAD = bread()

_KEPT = ("saga", "outbox", "inbox", "settling", "baked")

_HERE = "CREATE TABLE baked (n int)"
_THERE = "CREATE TABLE milled (line bigint GENERATED ALWAYS AS IDENTITY, what text, n int)"


class Mill:
    """The bakery, its mill, and both of their books.

    Attributes:
        acts: What the mill does beside grinding, after it has written that it did.
        burnt: Numbers of loaves that the oven refuses.
        heard: The numbers that a miller and a mouse heard of being sown, each.
    """

    def __init__(
        self,
        make: Callable[..., Runtime],
        outside: psycopg.Connection[Any],
        apart: psycopg.Connection[Any],
        engine: Engine,
    ) -> None:
        self._make = make
        self._here, self._there = outside, apart
        self.engine = engine
        self.acts: Callable[[Grind, Work], None] = act_nothing
        self.burnt: set[int] = set()
        outside.execute(_HERE)
        apart.execute(_THERE)
        self.open()

    def open(
        self,
        *,
        saga: Saga[Loaf] = BREAD,
        external: bool = False,
        retry: Retry | None = None,
        lease: timedelta = timedelta(minutes=1),
        **options: Any,
    ) -> None:
        """Begin anew, as a new release does."""
        self.saga = saga
        self._declared: Any = {"external": external, "lease": lease}
        self._declared |= {} if retry is None else {"retry": retry}
        self.runtime = self.another(**options)
        self.runtime.subscribe()

    def another(self, **options: Any) -> Runtime:
        """Return another process of the same release."""
        contexts = [*self._of_the_mill(self._declared), self._oven()]
        return self._make([self.saga], contexts, **{"databases": {"mills": self.engine}} | options)

    # What tests do

    def order(self, *numbers: int) -> list[UUID]:
        with self.runtime.engine.begin() as connection:
            loaves = [Loaf(n=n) for n in numbers]
            return list(self.runtime.start_many(connection, self.saga, loaves))

    def sow(self, *sown: Sown) -> None:
        for event in sown:
            with self.runtime.engine.begin() as connection:
                self.runtime.publish(connection, event)

    def settle(self, *names: str) -> int:
        """Answer until nobody has anything due; returns how much was done."""
        total = 0
        while done := sum(
            [self.runtime.answer(n) for n in names or self.runtime._wiring.consumers]
        ):
            total += done
        return total

    def end_leases(self) -> None:
        """What somebody was forwarding, or was handling outside, is anyone's again."""
        self._here.execute(
            "UPDATE inbox SET ring_at = now() "
            "WHERE state = 'pending' AND wait_reason = 'forwarding'"
        )
        for books in (self._here, self._there):
            books.execute(
                "UPDATE inbox SET due_at = now() WHERE state = 'pending' AND due_at IS NOT NULL"
            )

    def back_up(self) -> None:
        """Keep a copy of what home has, to be restored."""
        for table in _KEPT:
            self._here.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")

    def restore(self) -> None:
        """Home is as it was."""
        for table in _KEPT:
            self._here.execute(
                f"TRUNCATE {table}; "
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept_{table}"
            )

    def silence(self) -> None:
        """Take the doorbells that wait away."""
        client = self.runtime._wiring.broker.client  # type: ignore[union-attr]
        for key in client.scan_iter(f"{self.runtime.settings.namespace}:*"):
            client.delete(key)

    def alter(self, statement: str, *, apart: bool = False) -> None:
        """Change home's database by hand, or the mill's."""
        (self._there if apart else self._here).execute(statement)

    def pass_deadline(self) -> None:
        """The deadline of a saga's step passes, and the saga hears of it."""
        self._here.execute(
            "UPDATE inbox SET due_at = now() FROM outbox "
            "WHERE id = message_id AND kind = 'saga.timed_out' AND state = 'pending'"
        )
        self.settle("saga.bread")

    def act(self, act: str, *ids: UUID) -> None:
        """Retry or drop parked messages, as an operator."""
        with self.runtime.engine.begin() as connection:
            doing = getattr(self.runtime._administration.acts.parked, act)
            doing(joined(connection), ids, actor="ann", reason="the wheel is mended")

    def replay(self, id: UUID) -> None:
        with transaction(SqlAlchemyDatabase(self.runtime.engine), Boundary.ACT) as unit:
            self.runtime._administration.acts.act(unit, id, Replayed(reason="mended"), actor="ann")

    # What they see

    def here(self, query: str, *parameters: Any) -> list[Row]:
        with self._here.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def there(self, query: str, *parameters: Any) -> list[Row]:
        with self._there.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def status(self, id: UUID) -> str:
        return str(self.here("SELECT status FROM saga WHERE id = %s", id)[0]["status"])

    def milled(self) -> list[tuple[str, int]]:
        """What the mill did, in order; what it did twice is there twice."""
        rows = self.there("SELECT what, n FROM milled ORDER BY line")
        return [(row["what"], row["n"]) for row in rows]

    def baked(self) -> list[int]:
        return [row["n"] for row in self.here("SELECT n FROM baked ORDER BY n")]

    def at_home(self, kind: str = Grind.kind) -> Row:
        """The one delivery of this kind, in the record."""
        return self._delivery(self.here, kind)

    def at_the_mill(self, kind: str = Grind.kind) -> Row:
        """The same in the mill's own database."""
        return self._delivery(self.there, kind)

    def check(self) -> None:
        """Nothing is open, and each saga's history gives its state."""
        for books in (self.here, self.there):
            assert books("SELECT * FROM inbox WHERE state = 'pending'") == []
        with self.runtime.engine.begin() as connection:
            known = self.runtime
            assert (
                list(differences(joined(connection), known._wiring.statements, known._wiring.sagas))
                == []
            )

    def _delivery(self, books: Callable[..., list[Row]], kind: str) -> Row:
        [row] = books(
            "SELECT i.*, o.payload FROM inbox i JOIN outbox o ON o.id = i.message_id "
            "WHERE o.kind = %s AND consumer = 'mill'",
            kind,
        )
        return row

    def _of_the_mill(self, declared: dict[str, Any]) -> list[Context]:
        mill, mouse = Context("mill", database="mills"), Context("mouse", database="mills")

        def note(work: Work, what: str, n: int) -> None:
            work.execute(
                "INSERT INTO milled (what, n) VALUES (%(what)s, %(n)s)", {"what": what, "n": n}
            )

        @mill.handles(Grind, emits=(Ground,), **declared)
        def grind(command: Grind, work: Work) -> None:
            if not declared["external"]:
                note(work, "ground", command.n)
            self.acts(command, work)
            if declared["external"]:
                work.begin()
                note(work, "ground", command.n)
            work.publish(Ground(n=command.n, note="fine ½"))

        @mill.handles(Spill)
        def spill(command: Spill, work: Work) -> None:
            note(work, "spilt", command.n)

        @mill.reacts_to(Sown, ordered_by="field", retry=Retry(attempts=1))
        def reckon(event: Sown, work: Work) -> None:
            note(work, f"reckons with {event.field}", event.n)
            self.acts(Grind(n=event.n), work)

        @mouse.reacts_to(Sown)
        def hope(event: Sown, work: Work) -> None:
            note(work, f"hopes for {event.field}", event.n)

        return [mill, mouse]

    def _oven(self) -> Context:
        oven = Context("oven")

        @oven.handles(Bake)
        def bake(command: Bake, work: Work) -> None:
            if command.n in self.burnt:
                raise Rejected("the oven is out")
            work.execute("INSERT INTO baked VALUES (%(n)s)", {"n": command.n})

        return oven
