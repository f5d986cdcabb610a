"""A crossing by ferry, with a deadline and a pivot, and a port that sees what became of it."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import Command, Event, Retry, Saga, Step, TimedOut, Wait

Row = dict[str, Any]
HOUR = timedelta(hours=1)


class Crossing(BaseModel):
    n: int = 1
    cents: int = 100


class Reserve(Command, kind="cabins.reserve"):
    n: int


class Release(Command, kind="cabins.release"):
    n: int


class Charge(Command, kind="bank.charge"):
    cents: int


class Refund(Command, kind="bank.refund"):
    cents: int


class Board(Command, kind="pier.board"):
    n: int


class Calm(Event, kind="weather.calm"):
    pass


_CABIN = Step[Crossing](
    "cabin",
    lambda crossing: Reserve(n=crossing.n),
    compensation=lambda crossing: Release(n=crossing.n),
)
_CHARGE = Step[Crossing](
    "charge",
    lambda crossing: Charge(cents=crossing.cents),
    compensation=lambda crossing: Refund(cents=crossing.cents),
    timeout=HOUR,
)
_BOARD = Step[Crossing]("board", lambda crossing: Board(n=crossing.n), pivot=True)

CROSSING = Saga("crossing", Crossing, (_CABIN, _CHARGE, _BOARD))
#: The same, but it waits for the sea to be calm.
CAREFUL = Saga("crossing", Crossing, (_CABIN, Wait("weather", until=Calm), _BOARD), version=2)
#: The same with a deadline of its own, and with two waits for the weather.
LIMITED = Saga("crossing", Crossing, (_CABIN, _BOARD), version=3, deadline=HOUR)
WARY = Saga(
    "crossing",
    Crossing,
    (_CABIN, Wait("weather", until=Calm), Wait("tide", until=Calm), _BOARD),
    version=4,
)
#: One that cannot be undone once it is paid.
FINAL = Saga(
    "crossing",
    Crossing,
    (_CABIN, Step[Crossing]("charge", lambda crossing: Charge(cents=crossing.cents), pivot=True)),
    version=5,
)
SAGAS = [CROSSING, CAREFUL, LIMITED, WARY, FINAL]


def quiet(_: Command, __: Work) -> None:
    """A handler that has nothing to do."""


class Port:
    """The contexts of the crossings, and the runtime on which they are."""

    def __init__(self, runtime: Callable[..., Runtime], outside: psycopg.Connection[Any]) -> None:
        self._make = runtime
        self._outside = outside
        #: Kinds of the commands whose handlers returned, in that order.
        self.done: list[str] = []
        #: Of each run, the kind of its command, its idempotency key, and the one that it undoes.
        self.calls: list[tuple[str, str, str | None]] = []
        self.runtime = self._make(SAGAS)

    def open(self, *names: str, **bank: Any) -> None:
        """Begin anew, with workers for these contexts: what was in memory before is lost.

        What is given besides is how the bank's handler of a charge is declared, and `charge`,
        the handler itself.
        """
        contexts = {name: Context(name) for name in names}
        charge = bank.pop("charge", quiet)
        for name, kinds in {"cabins": (Reserve, Release), "pier": (Board,)}.items():
            if name in contexts:
                for kind in kinds:
                    contexts[name].handles(kind)(self._noting(quiet))
        if "bank" in contexts:
            contexts["bank"].handles(Refund)(self._noting(quiet))
            contexts["bank"].handles(Charge, **bank)(self._noting(charge))
        self.runtime = self._make(SAGAS, list(contexts.values()))

    def start(self, saga: Saga[Crossing] = CROSSING) -> UUID:
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, saga, Crossing())

    def settle(self) -> None:
        """Let everyone work until nobody has anything due."""
        while sum([self.runtime.answer(consumer) for consumer in self.runtime._wiring.consumers]):
            pass

    def make_due(self, kind: str) -> None:
        """Let the waits of deliveries of this kind be over."""
        self._outside.execute(
            "UPDATE inbox SET due_at = now() WHERE state = 'pending' "
            "AND message_id IN (SELECT id FROM outbox WHERE kind = %s)",
            (kind,),
        )

    def give_up(self) -> None:
        """Let the deadline of the step pass, and its saga see to that: while a handler runs."""
        self.make_due(TimedOut.kind)
        while self.runtime.answer("saga.crossing"):
            pass

    def keys(self, kind: str) -> list[str]:
        """The idempotency keys of the runs of this kind of command."""
        return [key for of, key, _ in self.calls if of == kind]

    def rows(self, query: str, *parameters: Any) -> list[Row]:
        with self._outside.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, parameters).fetchall()

    def status(self, id: UUID) -> str:
        (row,) = self.rows("SELECT status FROM saga WHERE id = %s", id)
        return str(row["status"])

    def deliveries(self, kind: str) -> list[Row]:
        """The deliveries of this kind, in the order of sending."""
        return self.rows(
            "SELECT i.*, o.payload FROM inbox i JOIN outbox o ON o.id = i.message_id "
            "WHERE o.kind = %s ORDER BY o.seq",
            kind,
        )

    def states(self, kind: str) -> list[str]:
        return [row["state"] for row in self.deliveries(kind)]

    def audit(self) -> list[Row]:
        return self.rows("SELECT * FROM audit ORDER BY seq")

    def _noting(self, handle: Callable[[Any, Work], None]) -> Callable[[Any, Work], None]:
        def run(message: Command, work: Work) -> None:
            self.calls.append((message.kind, work.idempotency_key, work.undoes))
            handle(message, work)
            self.done.append(message.kind)

        return run


def failing(times: int) -> Callable[[Command, Work], None]:
    """A handler that fails so many times before it works."""
    left: Iterable[int] = iter(range(times))

    def handle(_: Command, __: Work) -> None:
        for _n in left:
            raise ValueError("the bank is closed")

    return handle


#: A bank whose charge fails for good at once.
ONCE = Retry(attempts=1)
