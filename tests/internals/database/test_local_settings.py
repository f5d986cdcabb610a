"""What a handler sets for its transaction, or its session, is not the next one's."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import func, select, text

from internals import Context, Work
from internals.database.local_settings import find
from saga import Command, Done, Event, Retry


class Sign(Command, kind="notary.sign"):
    n: int = 0


class Signed(Event, kind="notary.signed"):
    n: int = 0


def notary(
    handle: Callable[[Sign, Work], None], *, alone: bool = False, **declared: Any
) -> Context:
    context = Context("notary", alone=alone)
    context.handles(Sign, **declared)(handle)
    return context


TENANT = "SELECT nullif(current_setting('app.tenant', true), '')"


def _driver(work: Work) -> Any:
    return work.connection.connection.driver_connection


def _through_session(work: Work) -> None:
    work.session.execute(select(func.set_config("app.tenant", "acme", True)))


#: Ways to set a tenant for the transaction.
LOCALLY: dict[str, Callable[[Work], object]] = {
    "set local": lambda work: work.execute("SET LOCAL app.tenant = 'acme'"),
    "set_config": lambda work: work.execute(
        "SELECT set_config('app.tenant', %(to)s, true)", {"to": "acme"}
    ),
    "sqlalchemy": lambda work: work.connection.execute(text("SET LOCAL app.tenant = 'acme'")),
    "its function": lambda work: work.connection.execute(
        select(func.set_config("app.tenant", "acme", True))
    ),
    "session": _through_session,
    "block": lambda work: work.execute("DO $$ BEGIN SET LOCAL app.tenant = 'acme'; END $$"),
    "driver": lambda work: _driver(work).execute(
        sql.SQL("SET LOCAL {} = 'acme'").format(sql.Identifier("app", "tenant"))
    ),
    "comment": lambda work: work.execute("/* why */ SET LOCAL app.tenant = 'acme'"),
}

#: Ways to set it for the session.
FOR_GOOD: dict[str, Callable[[Work], object]] = {
    "set": lambda work: work.execute("SET app.tenant = 'acme'"),
    "set session": lambda work: work.execute("SET SESSION app.tenant TO 'acme'"),
    "set_config": lambda work: work.execute("SELECT set_config('app.tenant', 'acme', false)"),
    "its function": lambda work: work.connection.execute(
        select(func.set_config("app.tenant", "acme", False))
    ),
}


class TestBatch:
    @pytest.mark.parametrize("name", [*LOCALLY, *(f"{name} for good" for name in FOR_GOOD)])
    def test_the_next_delivery_does_not_see_it(
        self, store: Any, command: Any, note: Any, name: str
    ) -> None:
        seen: list[Any] = []
        ways = LOCALLY | {f"{name} for good": way for name, way in FOR_GOOD.items()}

        def handle(message: Sign, work: Work) -> None:
            seen.append(work.execute(TENANT)[0][0])
            note(work, message.n)
            if message.n % 2 == 0:
                ways[name](work)

        store.send(*(command(Sign(n=n), saga="trip", awaits=(Done.kind,)) for n in range(8)))
        assert store.drain(notary(handle)) == 8
        assert store.effects() == list(range(8))
        assert seen == [None] * 8
        with store.engine.connect() as connection:
            assert connection.execute(text(TENANT)).scalar() is None

    def test_handlers_that_set_nothing_share_a_batch(self, store: Any, command: Any) -> None:
        def handle(message: Sign, work: Work) -> None:
            work.execute("CREATE TABLE IF NOT EXISTS offset_set (role text, local int)")
            work.execute("UPDATE offset_set SET role = 'x', local = 1 WHERE role = 'set local x'")

        store.send(*(command(Sign(n=n)) for n in range(8)))
        assert store.hop(notary(handle)).settled == 8

    def test_one_that_sets_something_is_the_last_of_its_transaction(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Sign, work: Work) -> None:
            if message.n == 3:
                work.execute("SET LOCAL app.tenant = 'acme'")

        store.send(*(command(Sign(n=n)) for n in range(8)))
        context = notary(handle)
        done = store.hop(context)
        assert (done.settled, done.more) == (4, True)
        assert store.hop(context).settled == 4

    def test_a_temporary_table_is_not_there_for_the_next(self, store: Any, command: Any) -> None:
        def handle(message: Sign, work: Work) -> None:
            work.execute("CREATE TEMP TABLE page (n int) ON COMMIT DROP")
            work.execute("INSERT INTO page VALUES (1)")

        def keep(message: Sign, work: Work) -> None:
            work.execute("CREATE TEMP TABLE sheet (n int)")

        for each in (handle, keep):
            store.send(*(command(Sign(n=n)) for n in range(3)))
            assert store.drain(notary(each, retry=Retry(attempts=1))) == 3
        assert {row["state"] for row in store.deliveries("notary")} == {"done"}

    @pytest.mark.parametrize(
        "statement",
        [
            "DECLARE mine CURSOR FOR SELECT 1",
            "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
            "PREPARE mine AS SELECT set_config('app.tenant', 'acme', true)",
        ],
    )
    def test_what_has_a_name_in_the_session_is_not_there_for_the_next(
        self, store: Any, command: Any, statement: str
    ) -> None:
        store.send(*(command(Sign(n=n)) for n in range(3)))
        context = notary(lambda _, work: work.execute(statement) and None)  # type: ignore[arg-type]
        assert store.drain(context) == 3

    @pytest.mark.parametrize("lock", ["pg_advisory_lock", "pg_try_advisory_lock"])
    def test_a_lock_of_the_session_ends_with_the_delivery(
        self, store: Any, command: Any, lock: str
    ) -> None:
        held = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = 8041963"

        def handle(command: Sign, work: Work) -> None:
            work.execute(f"SELECT {lock}(8041963)")

        store.send(*(command(Sign(n=n)) for n in range(3)))
        assert store.drain(notary(handle, retry=Retry(attempts=1))) == 3
        until = time.monotonic() + 20
        while store.rows(held) != [{"n": 0}]:  # a session ends a moment after its connection
            assert time.monotonic() < until
            time.sleep(0.01)

    def test_when_constraints_are_checked_is_the_handlers_own_matter(
        self, store: Any, command: Any, outside: Any
    ) -> None:
        outside.execute("CREATE TABLE seal (n int UNIQUE DEFERRABLE INITIALLY IMMEDIATE)")
        outside.execute("INSERT INTO seal VALUES (0)")

        def handle(message: Sign, work: Work) -> None:
            if message.n == 0:
                work.execute("SET CONSTRAINTS ALL DEFERRED")
            work.execute("INSERT INTO seal VALUES (%(n)s)", {"n": max(message.n - 1, 0)})
            if message.n == 0:
                work.execute("DELETE FROM seal WHERE ctid = (SELECT min(ctid) FROM seal)")

        sent = [command(Sign(n=n)) for n in range(3)]
        store.send(*sent)
        store.drain(notary(handle, retry=Retry(attempts=1)))
        assert [row["state"] for row in store.deliveries("notary")] == ["done", "parked", "done"]
        assert "seal_n_key" in store.delivery(sent[1])["last_error"]

    def test_session_settings_of_the_host_stay(self, store: Any, command: Any) -> None:
        """What the pool's connections were given when they were opened is there all the time."""
        seen: list[Any] = []

        def handle(message: Sign, work: Work) -> None:
            seen.append(work.execute("SHOW search_path")[0][0])
            work.execute("SET LOCAL search_path = pg_catalog")

        store.send(*(command(Sign(n=n)) for n in range(4)))
        store.drain(notary(handle))
        assert len(seen) == 4
        assert set(seen) == {seen[0]}
        assert store.schema in seen[0]


@pytest.fixture
def clerk(outside: Any, store: Any) -> Iterator[str]:
    """A role that may write to the ledger and to nothing of the framework's."""
    name = f"{store.schema}_clerk"
    outside.execute(f"CREATE ROLE {name}")
    outside.execute(f"GRANT {name} TO CURRENT_USER")
    outside.execute(f"GRANT USAGE ON SCHEMA {store.schema} TO {name}")
    outside.execute(f"GRANT INSERT ON effect TO {name}")
    yield name
    outside.execute(f"DROP OWNED BY {name}")
    outside.execute(f"DROP ROLE {name}")


class TestTheFrameworksOwnStatements:
    @pytest.mark.parametrize("leased", [False, True])
    @pytest.mark.parametrize(
        "statement",
        [
            *("SET LOCAL ROLE {clerk}", "SET ROLE {clerk}", "SET LOCAL statement_timeout = 1"),
            *("SELECT set_config('role', '{clerk}', true)", "SET LOCAL search_path = pg_catalog"),
        ],
    )
    def test_they_run_as_if_nothing_had_been_set(
        self, store: Any, command: Any, clerk: str, statement: str, leased: bool
    ) -> None:
        def handle(message: Sign, work: Work) -> None:
            work.execute(f"INSERT INTO effect VALUES ({message.n})")
            work.execute(statement.format(clerk=clerk))
            work.publish(Signed(n=message.n))

        context = notary(handle, emits=(Signed,), retry=Retry(attempts=1))
        sent = [command(Sign(n=n), saga="trip", awaits=(Done.kind,)) for n in range(3)]
        store.send(*sent)
        if leased:
            store.suspect(sent[1])
        store.drain(context)
        assert [row["state"] for row in store.deliveries("notary")] == ["done"] * 3
        assert store.effects() == [0, 1, 2]
        assert len(store.sent(Done.kind)) == 3

    def test_what_it_may_not_write_itself_is_its_own_failure_too(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Sign, work: Work) -> None:
            if message.n == 1:
                work.execute("SET TRANSACTION READ ONLY")
            note(work, message.n)

        sent = [command(Sign(n=n)) for n in range(3)]
        store.send(*sent)
        store.drain(notary(handle, retry=Retry(attempts=1)))
        assert store.effects() == [0, 2]
        assert "read-only transaction" in store.delivery(sent[1])["last_error"]
        assert [row["state"] for row in store.deliveries("notary")] == ["done", "parked", "done"]

    def test_one_that_may_not_write_any_more_is_its_handlers_failure(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Sign, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                work.execute("SET TRANSACTION READ ONLY")

        sent = [command(Sign(n=n)) for n in range(3)]
        store.send(*sent)
        store.drain(notary(handle, retry=Retry(attempts=1)))
        assert store.effects() == [0, 2]
        assert "read-only transaction" in store.delivery(sent[1])["last_error"]
        assert [row["state"] for row in store.deliveries("notary")] == ["done", "parked", "done"]


class TestAlone:
    def test_what_a_function_sets_is_not_the_next_ones(
        self, store: Any, command: Any, clerk: str, outside: Any
    ) -> None:
        outside.execute(
            "CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM set_config('app.tenant', 'acme', true); SET LOCAL ROLE {clerk}; END $$"
        )
        seen: list[Any] = []

        def handle(message: Sign, work: Work) -> None:
            seen.append(work.execute(TENANT)[0][0])
            work.execute("SELECT become()")
            work.execute(f"INSERT INTO effect VALUES ({message.n})")

        store.send(*(command(Sign(n=n)) for n in range(4)))
        context = notary(handle, alone=True, retry=Retry(attempts=1))
        assert store.hop(context).settled == 1
        assert store.drain(context) == 3
        assert store.effects() == [0, 1, 2, 3]
        assert seen == [None] * 4


class TestFind:
    @pytest.mark.parametrize(
        "statement",
        [
            *("SET LOCAL a.b = 'c'", "set role x", " \n SET a TO 1", "RESET ROLE", "DISCARD ALL"),
            *("-- why\nSET LOCAL a = 1", "/* why */ set local a = 1", "SELECT 1; SET a = 1"),
            *("SELECT set_config('a', 'b', true)", "SELECT pg_catalog.set_config (%s, %s, %s)"),
            *("WITH a AS (SELECT set_config('a', 'b', true)) SELECT 1", "CREATE TEMP TABLE a ()"),
            *(
                "SET CONSTRAINTS ALL DEFERRED",
                "SELECT 1 INTO TEMPORARY a",
                "CREATE TABLE pg_temp.a ()",
            ),
            *("DO $$ BEGIN SET LOCAL a = 1; END $$", "DO $$ BEGIN EXECUTE 'SET ROLE a'; END $$"),
            *("DO $$ BEGIN EXECUTE E'SET ROLE a'; END $$", "DO E'BEGIN SET LOCAL a = 1; END'"),
            *("/* /* why */ not */ SET LOCAL a = 1", """SELECT "set_config"('a', 'b', true)"""),
            *("CREATE OR REPLACE TEMP VIEW a AS SELECT 1", "DECLARE a CURSOR FOR SELECT 1"),
            *(
                "LISTEN a",
                "UNLISTEN *",
                "LOAD 'a'",
                "PREPARE a AS SELECT set_config('a', 'b', true)",
            ),
            *("SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock_shared (1, 2)"),
            "UPDATE pg_catalog.pg_settings SET setting = 'a' WHERE name = 'role'",
        ],
    )
    def test_it_finds_what_sets_something(self, statement: str) -> None:
        assert find(statement)

    @pytest.mark.parametrize(
        "statement",
        [
            *(
                "UPDATE a SET role = %s",
                "UPDATE a SET local = 1, session = 2",
                "SELECT * FROM settings",
            ),
            "INSERT INTO a VALUES (1) ON CONFLICT (a) DO UPDATE SET role = excluded.role",
            *(
                "DELETE FROM temp_table",
                "INSERT INTO offset_set SELECT 1",
                "SELECT 'temp', reset FROM a",
            ),
            *(
                "SELECT pg_advisory_xact_lock(1)",
                "UPDATE a SET payload = 1",
                "SELECT listen FROM a",
            ),
            "DO $$ DECLARE a int; BEGIN PERFORM 1; END $$",
        ],
    )
    def test_and_nothing_else(self, statement: str) -> None:
        assert not find(statement)

    @pytest.mark.parametrize(
        ("statement", "parameters", "local"),
        [
            ("SET LOCAL a = 1", None, True),
            ("SET a = 1", None, False),
            ("SET LOCAL a = 1; SET b = 1", None, False),
            ("SELECT set_config('a', %s, true)", ("b",), True),
            ("SELECT set_config('a', 'b', false)", None, False),
            ("SELECT set_config('a', 'b', true), set_config('a', 'b', false)", None, False),
            (
                "SELECT set_config(%(a)s::VARCHAR, %(b)s::VARCHAR, %(c)s::BOOLEAN)",
                {"c": True},
                True,
            ),
            ("SELECT set_config(%(a)s, %(b)s, %(c)s)", {"a": "a", "c": False}, False),
            ("CREATE TEMP TABLE a () ON COMMIT DROP", None, True),
            ("CREATE TEMP TABLE a () ON COMMIT DELETE ROWS", None, False),
            ("DECLARE a CURSOR FOR SELECT 1", None, True),
            ("DECLARE a CURSOR WITH HOLD FOR SELECT 1", None, False),
            ("SELECT pg_advisory_lock(1), set_config('a', 'b', true)", None, False),
            ("PREPARE a AS SELECT set_config('a', 'b', true)", None, False),
        ],
    )
    def test_it_tells_what_ends_with_the_transaction(
        self, statement: str, parameters: object, local: bool
    ) -> None:
        assert find(statement).local(parameters) is local
