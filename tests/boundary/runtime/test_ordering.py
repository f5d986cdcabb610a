"""Events that a context takes in order: one at a time for each key, and no key waits for another."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from boundary.migration import migrate
from internals import Context
from internals.database.unit_of_work import joined
from saga import SETTLED, DefinitionError
from tests.boundary.worlds.ordered_events import WHY, Board, Drive, Moved, Split


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
        board.runtime._administration.acts.parked.retry(
            joined(connection), board.parked(), actor="a", reason=WHY
        )
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
        woken = board.runtime._administration.acts.parked.drop(
            unit, board.parked(), actor="a", reason=WHY
        )
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


@pytest.mark.parametrize("colocate", [True, False])
def test_those_of_one_batch_go_on_one_after_the_other_at_once(
    runtime: Any, outside: Any, monkeypatch: pytest.MonkeyPatch, colocate: bool
) -> None:
    """Each lets the next go on, and none is due before that: no relay is needed."""
    monkeypatch.setattr("boundary.runtime.worker_loop._FOLLOW", 600.0)
    board = Board(partial(runtime, colocate=colocate), outside, until=SETTLED)
    places = tuple(range(60))
    with board.runtime.engine.begin() as connection:
        board.runtime.start(connection, board.journey, Drive(truck="red", places=places))
    board.runtime.answer("fleet")
    assert board.held_up() == 59
    board.runtime.answer("board", follow=True)
    assert board.noted() == list(places)


def test_of_many_keys_in_one_batch_none_waits_for_another(board: Board) -> None:
    trucks = [f"t{n % 7}" for n in range(70)]
    events = [Moved(truck=truck, to=n) for n, truck in enumerate(trucks)]
    with board.runtime.engine.begin() as connection:
        board.send(connection, *events)
    assert board.held_up() == 63
    board.runtime.answer("board", follow=True)
    for truck in set(trucks):
        assert board.noted(truck) == [event.to for event in events if event.truck == truck]


def test_one_that_is_sent_while_the_last_is_handled_need_not_wait_for_long(board: Board) -> None:
    """Its publisher sees the last one open, and commits after that was settled."""
    relay = board.runtime._worker_loop.relay()
    relay.look()
    board.publish("red", 1)
    with board.runtime.engine.begin() as connection:
        board.runtime.publish(connection, Moved(truck="red", to=2))
        board.answer()
        relay.glance()
        assert board.noted() == [1]
    relay.glance()
    board.answer()
    assert board.noted() == [1, 2]


def test_one_that_waited_for_another_publisher_sees_what_was_settled_meanwhile(
    board: Board, eventually: Any
) -> None:
    board.publish("red", 1)
    with ThreadPoolExecutor(1) as pool, board.runtime.engine.connect() as connection:
        never = connection.begin()
        board.runtime.publish(connection, Moved(truck="red", to=2))
        third = pool.submit(board.publish, "red", 3)
        eventually(lambda: _somebody_waits_for_a_lock(board.outside))
        board.answer()
        never.rollback()
        third.result()
    board.answer()
    assert board.noted() == [1, 3]


def test_what_waits_for_one_before_it_is_not_rung_for(board: Board) -> None:
    """Whoever is rung for again and again counts as what kills its workers."""
    board.broken = {("red", 1)}
    board.publish("red", 1)
    board.answer()
    board.publish("red", 2)
    board.outside.execute(
        "UPDATE inbox SET wait_reason = NULL, due_at = now(), ring_at = now() "
        "WHERE state = 'pending'"
    )
    assert board.runtime._worker_loop.relay().look() == 0


class TestLocks:
    """Publishers of one key wait for each other, by a bounded number of locks."""

    #: More than all locks that a server has room for by its default settings.
    MANY = 20_000

    def test_as_many_keys_as_you_like_in_one_statement(self, board: Board) -> None:
        with board.runtime.engine.begin() as connection:
            board.send(connection, *(Moved(truck=f"t{n}", to=n) for n in range(self.MANY)))
            assert _advisory_locks(connection) < 200
        found = board.outside.execute("SELECT count(DISTINCT ordering_key) FROM inbox").fetchone()
        assert found == (self.MANY,)

    def test_as_many_keys_as_you_like_in_one_transaction(self, board: Board) -> None:
        with board.runtime.engine.begin() as connection:
            for first in range(0, 2000, 50):
                board.send(connection, *(Moved(truck=f"t{first + n}", to=n) for n in range(50)))
            assert _advisory_locks(connection) < 1200

    def test_a_saga_whose_handler_publishes_that_many_completes(self, board: Board) -> None:
        with board.runtime.engine.begin() as connection:
            id = board.runtime.start(connection, board.fan_out, Split(trucks=self.MANY))
        for name in ("billing", "saga.fan_out"):
            board.runtime.answer(name)
        found = board.outside.execute("SELECT status FROM saga WHERE id = %s", [id]).fetchone()
        assert found == ("completed",)

    @pytest.mark.parametrize("many_first", [True, False])
    def test_one_with_many_keys_and_one_with_few_wait_for_each_other(
        self, board: Board, eventually: Any, many_first: bool
    ) -> None:
        many = [Moved(truck=f"t{n}", to=1) for n in range(300)]
        few = [Moved(truck="t7", to=2)]
        first, second = (many, few) if many_first else (few, many)

        def publish_second() -> None:
            with board.runtime.engine.begin() as connection:
                board.send(connection, *second)

        with ThreadPoolExecutor(1) as pool:
            with board.runtime.engine.begin() as connection:
                board.send(connection, *first)
                waiting = pool.submit(publish_second)
                eventually(lambda: waiting.done() or _somebody_waits_for_a_lock(board.outside))
                assert not waiting.done()
                board.answer()
                assert board.noted("t7") == []
            waiting.result()
        board.answer()
        assert board.noted("t7") == ([1, 2] if many_first else [2, 1])

    def test_publishers_with_many_keys_at_once_are_no_deadlock(self, board: Board) -> None:
        def publish(seed: int) -> None:
            trucks = [f"t{n}" for n in range(40 * (1 + seed % 5))]
            random.Random(seed).shuffle(trucks)
            with board.runtime.engine.begin() as connection:
                board.send(connection, *(Moved(truck=truck, to=seed) for truck in trucks))

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(publish, range(60)))
        board.answer()
        assert len(board.noted("t0")) == 60

    def test_two_applications_in_one_database_do_not_wait_for_each_other(
        self, board: Board, runtime: Any, owner: Any, settings: Any
    ) -> None:
        other = f"{settings.db_schema}_b"
        migrate(owner, other)
        try:
            subscriber = Context("board")
            subscriber.reacts_to(Moved, ordered_by="truck")(lambda _, __: None)
            theirs = runtime([], [subscriber], db_schema=other)
            theirs._administration.subscribe_once()
            with board.runtime.engine.begin() as connection:
                board.runtime.publish(connection, Moved(truck="red", to=1))
                with theirs.engine.begin() as another:
                    another.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
                    theirs.publish(another, Moved(truck="red", to=1))
        finally:
            with owner.begin() as connection:
                connection.execute(text(f"DROP SCHEMA {other} CASCADE"))


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
    relay = board.runtime._worker_loop.relay()
    while board.held_up():
        relay.look()
        board.answer()
    board.answer()
    assert board.noted("red") == board.noted("blue") == list(range(1, 31))


def test_the_relay_finds_what_nothing_holds_up(board: Board) -> None:
    """What is sent while the one before it is being settled may take that for open still."""
    board.publish("red", 1)
    board.outside.execute("UPDATE inbox SET due_at = NULL, wait_reason = 'ordering'")
    board.answer()
    assert board.noted() == []
    board.runtime._worker_loop.relay().look()
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


def _advisory_locks(connection: Connection) -> int:
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    return int(connection.execute(text(held)).scalar_one())
