"""Whose fault it is: errors that do not come out of a handler as a plain exception."""

import asyncio
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from dramatiq.middleware import Interrupt, Shutdown, TimeLimitExceeded
from sqlalchemy import create_engine

from internals import Context, Work
from internals.database.connections import SqlAlchemyDatabase
from internals.hop import drain
from saga import Command, Done, Event, Retry


class Load(Command, kind="ship.load"):
    n: int = 0


class Loaded(Event, kind="ship.loaded"):
    berth: str = ""


Handle = Callable[[Load, Work], None]


def ship(handle: Handle, **declared: Any) -> Context:
    context = Context("ship")
    context.handles(Load, **declared)(handle)
    return context


def _group() -> BaseException:
    return BaseExceptionGroup("two at once", [SystemExit(3), ValueError("no crane")])


#: What a handler may raise that is no Exception.
STRANGE = [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), _group()]


class TestNoException:
    @pytest.mark.parametrize("error", STRANGE, ids=lambda error: type(error).__name__)
    def test_it_is_counted_and_harms_no_neighbour(
        self, store: Any, command: Any, note: Any, error: BaseException
    ) -> None:
        def handle(message: Load, work: Work) -> None:
            note(work, message.n)
            if message.n == 2:
                raise error

        sent = [command(Load(n=n), saga="trip", awaits=(Done.kind,)) for n in range(5)]
        store.send(*sent)
        context = ship(handle, retry=Retry(attempts=2, backoff=timedelta(0)))
        store.drain(context)
        assert store.effects() == [0, 1, 3, 4]
        row = store.delivery(sent[2])
        assert row["last_error"].startswith(type(error).__name__)
        store.make_due()
        store.drain(context)
        row = store.delivery(sent[2])
        assert (row["state"], row["attempts"]) == ("parked", 2)
        assert row["last_error"].startswith(type(error).__name__)
        assert store.effects() == [0, 1, 3, 4]

    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize("error", STRANGE, ids=lambda error: type(error).__name__)
    def test_so_is_one_under_a_lease(
        self, store: Any, command: Any, error: BaseException, external: bool
    ) -> None:
        def handle(message: Load, work: Work) -> None:
            raise error

        message = command(Load())
        store.send(message)
        store.suspect(message)
        store.drain(ship(handle, external=external, retry=Retry(attempts=1)))
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("parked", 1)
        assert row["last_error"].startswith(type(error).__name__)

    def test_the_policy_may_name_it(self, store: Any, command: Any) -> None:
        message = command(Load())
        store.send(message)
        store.drain(ship(lambda *_: sys.exit(3), retry=Retry(attempts=9, never=(SystemExit,))))
        assert store.delivery(message)["state"] == "parked"

    def test_a_keyboard_interrupt_that_code_raises_in_a_workers_thread(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Load, work: Work) -> None:
            raise KeyboardInterrupt

        message = command(Load())
        store.send(message)
        context = ship(handle, retry=Retry(attempts=1))
        thread = threading.Thread(target=store.drain, args=(context,))
        thread.start()
        thread.join(30)
        assert store.delivery(message)["state"] == "parked"
        assert store.delivery(message)["last_error"] == "KeyboardInterrupt"


class TestInterrupts:
    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize(
        "error",
        [
            *(Shutdown(), TimeLimitExceeded(), Interrupt(), KeyboardInterrupt()),
            BaseExceptionGroup("of tasks", [Shutdown(), SystemExit()]),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_tells_the_worker_to_stop_is_no_failure(
        self, store: Any, command: Any, note: Any, error: BaseException, external: bool
    ) -> None:
        def handle(message: Load, work: Work) -> None:
            work.begin()
            note(work, message.n)
            raise error

        message = command(Load())
        store.send(message)
        with pytest.raises(type(error)):
            store.drain(ship(handle, external=external))
        row = store.delivery(message)
        assert (row["state"], row["last_error"]) == ("pending", None)
        assert row["attempts"] == int(external)  # the lease counts the start
        assert store.effects() == []


@pytest.fixture
def berths(outside: Any) -> None:
    """A table whose foreign key is checked at the commit, as those of Django are."""
    outside.execute("CREATE TABLE berth (name text PRIMARY KEY)")
    outside.execute(
        "CREATE TABLE cargo (n int, berth text REFERENCES berth DEFERRABLE INITIALLY DEFERRED)"
    )
    outside.execute("INSERT INTO berth VALUES ('one')")


def stow(message: Load, work: Work) -> None:
    """The third names a berth that does not exist, which the commit finds out."""
    work.execute(
        "INSERT INTO cargo VALUES (%(n)s, %(berth)s)",
        {"n": message.n, "berth": "two" if message.n == 2 else "one"},
    )


@pytest.mark.usefixtures("berths")
class TestRefusedAtTheCommit:
    def test_the_culprit_is_found_and_its_neighbours_go_on_at_once(
        self, store: Any, command: Any
    ) -> None:
        sent = [command(Load(n=n), saga="trip", awaits=(Done.kind,)) for n in range(6)]
        store.send(*sent)
        context = ship(stow, retry=Retry(attempts=2, backoff=timedelta(hours=9)))
        assert store.drain(context) == 6
        assert _stowed(store) == [0, 1, 3, 4, 5]
        assert len(store.sent(Done.kind)) == 5
        row = store.delivery(sent[2])
        assert (row["state"], row["attempts"]) == ("pending", 1)
        assert 'violates foreign key constraint "cargo_berth_fkey"' in row["last_error"]
        store.make_due()
        store.drain(context)
        row = store.delivery(sent[2])
        assert (row["state"], row["attempts"]) == ("parked", 2)
        assert 'violates foreign key constraint "cargo_berth_fkey"' in row["last_error"]
        assert {row["attempts"] for row in store.deliveries("ship")} == {0, 2}

    def test_one_alone_runs_once_for_each_attempt(self, store: Any, command: Any) -> None:
        runs: list[int] = []

        def handle(message: Load, work: Work) -> None:
            runs.append(message.n)
            stow(message, work)

        message = command(Load(n=2))
        store.send(message)
        store.drain(ship(handle, retry=Retry(attempts=1)))
        assert (store.delivery(message)["state"], runs) == ("parked", [2])

    def test_two_that_come_one_after_the_other_run_once_each(
        self, store: Any, command: Any
    ) -> None:
        """What is known of the first is not forgotten when the commit is refused for the second."""
        runs: list[Load] = []
        sent = [command(Load(n=2)), command(Load(n=2))]

        def handle(message: Load, work: Work) -> None:
            runs.append(message)
            assert len(runs) < 9, "they run in turn for ever"
            if len(runs) == 1:
                store.send(sent[1])
            stow(message, work)

        store.send(sent[0])
        store.drain(ship(handle, retry=Retry(attempts=1)))
        assert [row["state"] for row in store.deliveries("ship")] == ["parked", "parked"]
        assert all("ForeignKeyViolation" in store.delivery(each)["last_error"] for each in sent)
        assert len(runs) == 2

    @pytest.mark.parametrize("external", [False, True])
    def test_under_a_lease_it_is_counted_and_nothing_is_called_again(
        self, store: Any, command: Any, external: bool
    ) -> None:
        runs: list[int] = []

        def handle(message: Load, work: Work) -> None:
            runs.append(message.n)
            work.begin()
            stow(message, work)

        message = command(Load(n=2), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.suspect(message)
        context = ship(handle, external=external, retry=Retry(attempts=2, backoff=timedelta(0)))
        for _ in range(2):
            store.drain(context)
            store.make_due()
        row = store.delivery(message)
        assert (row["state"], row["attempts"], runs) == ("parked", 2, [2, 2])
        assert "ForeignKeyViolation" in row["last_error"]
        assert store.sent(Done.kind) == []

    def test_a_trigger_that_is_checked_at_the_commit_has_its_own_words(
        self, store: Any, command: Any, outside: Any
    ) -> None:
        outside.execute(
            "CREATE FUNCTION heavy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF new.n = 1 THEN RAISE 'the ship sinks' USING ERRCODE = '42501'; END IF; "
            "RETURN NULL; END $$"
        )
        outside.execute(
            "CREATE CONSTRAINT TRIGGER heavy AFTER INSERT ON cargo DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION heavy()"
        )
        sent = [command(Load(n=n)) for n in (0, 1, 3)]
        store.send(*sent)
        store.drain(ship(stow, retry=Retry(attempts=1)))
        assert _stowed(store) == [0, 3]
        assert "the ship sinks" in store.delivery(sent[1])["last_error"]


class TestRefusedWhenSent:
    def test_an_ordering_key_that_no_index_holds_is_the_senders_fault(
        self, store: Any, command: Any
    ) -> None:
        dock = Context("dock")
        dock.reacts_to(Loaded, ordered_by="berth")(lambda *_: None)
        store.subscribe(dock)

        def handle(message: Load, work: Work) -> None:
            work.publish(Loaded(berth=secrets.token_hex(4500) if message.n == 1 else "one"))

        sent = [command(Load(n=n)) for n in range(4)]
        store.send(*sent)
        store.drain(ship(handle, emits=(Loaded,), retry=Retry(attempts=1)))
        assert [row["state"] for row in store.deliveries("ship")] == [
            *("done", "parked", "done", "done")
        ]
        error = store.delivery(sent[1])["last_error"]
        assert error.startswith("PayloadError: ")
        assert "ordering key" in error
        assert len(store.sent(Loaded.kind)) == 3


@contextmanager
def impatient(store: Any, milliseconds: int) -> Iterator[SqlAlchemyDatabase]:
    """A database whose server ends a session that is idle in a transaction for so long."""
    timeout = f"-c idle_in_transaction_session_timeout={milliseconds}"
    engine = create_engine(
        store.engine.url,
        connect_args={"options": f"-c search_path={store.schema},public {timeout}"},
    )
    yield SqlAlchemyDatabase(engine)
    engine.dispose()


class TestSlowHandlers:
    """The server ends a session whose transaction is idle; the handler is why, and it is told so."""

    @pytest.mark.parametrize("writes", ["nothing", "before", "after"])
    @pytest.mark.parametrize("leased", [False, True])
    def test_it_is_counted_and_named(
        self, store: Any, command: Any, note: Any, outside: Any, writes: str, leased: bool
    ) -> None:
        def handle(message: Load, work: Work) -> None:
            if writes == "before" or message.n != 1:
                note(work, message.n)
            if message.n == 1:
                ended = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
                pid = work.connection.connection.driver_connection.info.backend_pid
                if leased:
                    work.execute("SELECT 1")
                wait_until(lambda: store.rows(ended, pid)[0]["count"] == 0)
                if writes == "after":
                    note(work, message.n)

        sent = [command(Load(n=n)) for n in range(3)]
        store.send(*sent)
        if leased:
            store.suspect(sent[1])
        context = ship(handle, retry=Retry(attempts=2, backoff=timedelta(0)))
        with impatient(store, 250) as database:
            for _ in range(2):
                drain(database, store.consumer(context), lambda _: None)
                store.make_due()
        row = store.delivery(sent[1])
        assert (row["state"], row["attempts"]) == ("parked", 2)
        assert "idle-in-transaction timeout" in row["last_error"]
        assert store.effects() == [0, 2]
        assert [row["attempts"] for row in store.deliveries("ship")] == [0, 2, 0]


class TestTheLastError:
    def test_what_was_known_before_its_workers_died_is_told(self, store: Any, command: Any) -> None:
        def handle(message: Load, work: Work) -> None:
            if not dying:
                raise ValueError("no crane")
            raise Shutdown

        dying: list[bool] = []
        message = command(Load())
        store.send(message)
        context = ship(handle, external=True, retry=Retry(attempts=3, backoff=timedelta(0)))
        for _ in range(4):
            with suppress(Shutdown):
                store.drain(context)
            dying.append(True)
            store.make_due()
        row = store.delivery(message)
        assert row["state"] == "parked"
        assert "ValueError: no crane" in row["last_error"]


def _stowed(store: Any) -> list[int]:
    return [row["n"] for row in store.rows("SELECT n FROM cargo ORDER BY n")]


def wait_until(done: Callable[[], bool]) -> None:
    for _ in range(2000):
        if done():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen")
