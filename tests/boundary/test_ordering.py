"""Events that a context takes in order: one at a time for each key, and no key waits for another."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from boundary import Runtime
from internals import Context, Work
from internals.unit_of_work import joined
from saga import Command, DefinitionError, Event, Retry, Saga, Step

WHY = "mended"


class Moved(Event, kind="fleet.moved"):
    truck: str | None
    to: int


class Drive(Command, kind="fleet.drive"):
    truck: str
    places: tuple[int, ...]


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
        board, fleet = Context("board"), Context("fleet")

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

        drives = Step("drive", lambda drive: drive, until=until)
        self.journey = Saga("journey", Drive, steps=(drives,))
        self.runtime: Runtime = runtime([self.journey], [board, fleet])
        self.runtime.subscribe_once()

    def publish(self, truck: str | None, *places: int) -> list[UUID]:
        with self.runtime.engine.begin() as connection:
            moved = (Moved(truck=truck, to=place) for place in places)
            return [self.runtime.publish(connection, event) for event in moved]

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
            "SELECT count(*) FROM inbox WHERE state = 'pending' AND due_at > now() + interval '1y'"
        )
        return int(count)


@pytest.fixture
def board(runtime: Any, outside: Any) -> Board:
    return Board(runtime, outside)


def test_one_by_one_in_the_order_of_sending(board: Board) -> None:
    board.publish("red", 1, 2, 3)
    board.publish("red", 4, 5)
    board.answer()
    assert board.noted() == [1, 2, 3, 4, 5]


def test_one_that_is_parked_holds_up_its_own_key_only(board: Board) -> None:
    board.broken = {("red", 2)}
    board.publish("red", 1, 2, 3)
    board.publish("blue", 7)
    board.answer()
    board.publish("red", 4)
    board.publish("blue", 8)
    board.answer()
    assert (board.noted("red"), board.noted("blue")) == ([1], [7, 8])

    board.broken = set()
    with board.runtime.engine.begin() as connection:
        board.runtime.acts.retry_parked(joined(connection), board.parked(), actor="a", reason=WHY)
    board.answer()
    assert board.noted("red") == [1, 2, 3, 4]


def test_one_that_is_dropped_lets_the_next_go_on(board: Board) -> None:
    board.broken = {("red", 1)}
    board.publish("red", 1)
    board.answer()
    board.publish("red", 2)
    board.publish("red", 3)
    assert board.held_up() == 2
    with board.runtime.engine.begin() as connection:
        unit = joined(connection)
        woken = board.runtime.acts.drop_parked(unit, board.parked(), actor="a", reason=WHY)
    assert woken == {"board"}
    board.answer()
    assert board.noted() == [2, 3]


def test_those_that_one_handler_publishes_are_in_its_order(board: Board) -> None:
    board.broken = {("red", 2)}
    with board.runtime.engine.begin() as connection:
        board.runtime.start(connection, board.journey, Drive(truck="red", places=(1, 2, 3)))
    board.runtime.answer("fleet")
    board.answer()
    assert board.noted() == [1]


def test_a_value_that_is_missing_is_no_key(board: Board) -> None:
    board.broken = {(None, 1)}
    board.publish(None, 1, 2)
    board.answer()
    assert board.noted(None) == [2]


def test_the_order_is_that_of_commits_and_not_of_numbers(board: Board, eventually: Any) -> None:
    """A later number that is committed first would be handled first, were it let through."""
    slow = board.runtime.engine.connect()
    with slow, slow.begin() as open_:
        board.runtime.publish(slow, Moved(truck="red", to=1))
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(board.publish, "red", 2)
            eventually(lambda: second.done() or _somebody_waits_for_a_lock(board.outside))
            assert not second.done()
            board.publish("blue", 9)  # waits for nobody
            board.answer()
            assert board.noted("red") == []
            open_.commit()
            second.result()
    board.answer()
    assert (board.noted("red"), board.noted("blue")) == ([1, 2], [9])


def test_many_publishers_and_hops_at_once(board: Board) -> None:
    """Each publisher numbers its events as it holds its key's lock."""
    trucks = ["red", "blue"]
    board.outside.execute("CREATE TABLE place (truck text PRIMARY KEY, last int)")
    for truck in trucks:
        board.outside.execute("INSERT INTO place VALUES (%s, 0)", [truck])
    stop = threading.Event()

    def publish(turn: int) -> None:
        with board.runtime.engine.begin() as connection:
            truck = trucks[turn % 2]
            to = connection.execute(
                text(
                    f"UPDATE {board.runtime.settings.db_schema}.place SET last = last + 1 "
                    "WHERE truck = :truck RETURNING last"
                ),
                {"truck": truck},
            ).scalar_one()
            board.runtime.publish(connection, Moved(truck=truck, to=to))

    def handle() -> None:
        while not stop.is_set():
            board.runtime.answer("board")

    with ThreadPoolExecutor(6) as pool:
        handlers = [pool.submit(handle) for _ in range(2)]
        list(pool.map(publish, range(60)))
        stop.set()
        for handler in handlers:
            handler.result()
    relay = board.runtime.relay()
    while board.held_up():
        relay.look()
        board.answer()
    board.answer()
    assert board.noted("red") == board.noted("blue") == list(range(1, 31))


def test_the_relay_finds_what_nothing_holds_up(board: Board) -> None:
    """What is sent while the one before it is being settled may take that for open still."""
    board.publish("red", 1)
    board.outside.execute("UPDATE inbox SET due_at = '9000-01-01 00:00:00+00'")
    board.answer()
    assert board.noted() == []
    board.runtime.relay().look()
    board.answer()
    assert board.noted() == [1]


def test_a_field_that_the_event_has_not_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"no field 'lorry' to be ordered by; it has truck"):
        Context("board").reacts_to(Moved, ordered_by="lorry")


def _somebody_waits_for_a_lock(outside: psycopg.Connection[Any]) -> bool:
    found = outside.execute(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND wait_event = 'advisory' AND datname = current_database()"
    )
    return found.fetchone() is not None
