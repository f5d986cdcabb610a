"""The runtime: one place that wires things, and nothing before it is used."""

import subprocess
import sys
from typing import Any

import pytest
import redis
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from boundary import Runtime, Settings
from boundary.migration import migrate
from internals import Context, Work
from internals.hop.context_consumer import ContextConsumer
from internals.store.delivery import SUSPECT_RINGS
from saga import Command, DefinitionError, Event, NoTransaction, PayloadError, Saga, Step


class Visit(BaseModel):
    guest: str = "Ann"


class Greet(Command, kind="porch.greet"):
    guest: str


class Greeted(Event, kind="porch.greeted"):
    guest: str


def visit(version: int = 1) -> Saga[Visit]:
    steps: tuple[Step[Visit, Any], ...] = (Step("greet", lambda visit: Greet(guest=visit.guest)),)
    return Saga(name="visit", data=Visit, version=version, steps=steps)


VISIT = visit()


class TestWiring:
    def test_two_contexts_of_one_name_collide(self) -> None:
        with pytest.raises(DefinitionError, match="two contexts are called 'porch'"):
            Runtime(contexts=[Context("porch"), Context("porch")])

    def test_one_context_given_twice_is_one(self) -> None:
        porch = Context("porch")
        assert Runtime(contexts=[porch, porch])._wiring.contexts == (porch,)

    def test_one_version_given_twice_collides(self) -> None:
        with pytest.raises(DefinitionError, match="version 1 is given twice"):
            Runtime(sagas=[visit(), visit()])

    def test_several_versions_of_a_saga_share_an_inbox(self, settings: Settings) -> None:
        runtime = Runtime(
            sagas=[visit(1), visit(2)], contexts=[Context("porch")], settings=settings
        )
        assert list(runtime._wiring.consumers) == ["porch", "saga.visit"]
        runtime.close()

    def test_the_budget_and_the_batch_come_from_the_settings(self, runtime: Any) -> None:
        one = runtime([], [Context("porch")], budget=7.0)
        consumer = one._wiring.consumers["porch"]
        assert isinstance(consumer, ContextConsumer)
        assert consumer._budget == 7.0

    def test_nothing_connects_before_it_is_used(self) -> None:
        settings = Settings(
            database_url="postgresql://127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0"
        )
        runtime = Runtime(sagas=[VISIT], contexts=[Context("porch")], settings=settings)
        assert runtime.worker() is runtime._wiring.broker
        assert list(runtime._wiring.consumers) == ["porch", "saga.visit"]
        runtime._worker_loop.relay()
        runtime.close()

    def test_importing_it_imports_no_embedded_servers_and_no_alembic(self) -> None:
        code = (
            "import sys, boundary; "
            "print([m for m in sys.modules if m.startswith(('alembic', 'boundary.embedded'))])"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert ran.stdout.strip() == "[]"


class TestEngine:
    def test_a_host_s_engine_is_used_and_left_open(self, settings: Settings) -> None:
        assert settings.database_url is not None
        engine = create_engine(settings.database_url.get_secret_value())
        runtime = Runtime(settings=settings, engine=engine)
        assert runtime.engine is engine
        with engine.connect():
            pass
        runtime.close()
        assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
        engine.dispose()

    def test_its_own_is_made_from_the_settings_and_closed(self, settings: Settings) -> None:
        runtime = Runtime(settings=settings)
        with runtime.engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        runtime.close()
        runtime.close()  # harmless

    def test_a_context_s_tables_may_be_translated_to_another_schema(
        self, settings: Settings
    ) -> None:
        options = {"schema_translate_map": {"shop": settings.db_schema}}
        runtime = Runtime(settings=settings, execution_options=options)
        assert runtime.engine.get_execution_options()["schema_translate_map"] == {
            "shop": settings.db_schema
        }
        runtime.close()

    def test_a_commit_in_a_handler_is_refused_on_a_given_engine_too(
        self, runtime: Any, outside: Any
    ) -> None:
        porch = Context("porch")
        porch.handles(Greet)(lambda _, work: work.connection.commit())
        one = runtime([VISIT], [porch])
        with one.engine.begin() as connection:
            one.start(connection, VISIT, Visit())
        one.answer("porch")
        row = outside.execute(
            "SELECT state, attempts, last_error FROM inbox WHERE consumer = 'porch'"
        ).fetchone()
        assert row[:2] == ("pending", 1)
        assert "must not commit" in row[2]


class TestPublish:
    @pytest.fixture
    def porch(self) -> Context:
        garden = Context("garden")
        garden.reacts_to(Greeted)(lambda event, work: None)  # noqa: ARG005
        return garden

    def test_an_event_of_the_host_is_sent_with_its_own_work(
        self, runtime: Any, porch: Context, outside: Any
    ) -> None:
        one = runtime([], [porch])
        one.subscribe()
        with Session(one.engine) as session, session.begin():
            id = one.publish(session, Greeted(guest="Ann"))
            assert outside.execute("SELECT * FROM outbox").fetchall() == []
        rows = outside.execute(
            "SELECT id, kind, category, root_id, causation_id, saga_id, sender, recipient "
            "FROM outbox"
        ).fetchall()
        assert rows == [(id, Greeted.kind, "event", id, None, None, None, None)]
        assert one.answer("garden") == 1

    def test_a_rollback_takes_it_back(self, runtime: Any, porch: Context, outside: Any) -> None:
        one = runtime([], [porch])
        one.subscribe()
        with one.engine.connect() as connection, connection.begin() as transaction:
            one.publish(connection, Greeted(guest="Ann"))
            transaction.rollback()
        assert outside.execute("SELECT * FROM outbox").fetchall() == []
        assert one.answer("garden") == 0

    def test_its_doorbell_rings_after_the_commit(
        self, runtime: Any, porch: Context, redis_client: redis.Redis, settings: Settings
    ) -> None:
        one = runtime([], [porch])
        one.subscribe()
        key = f"{settings.namespace}:doorbell:garden"
        with one.engine.begin() as connection:
            one.publish(connection, Greeted(guest="Ann"))
            assert redis_client.llen(key) == 0
        assert redis_client.llen(key) == 1

    def test_outside_a_transaction_it_is_refused(self, runtime: Any) -> None:
        one = runtime()
        with one.engine.connect() as connection, pytest.raises(NoTransaction):
            one.publish(connection, Greeted(guest="Ann"))

    def test_what_cannot_be_stored_is_refused_and_the_transaction_goes_on(
        self, runtime: Any, outside: Any
    ) -> None:
        one = runtime([], max_payload=100)
        with one.engine.begin() as connection:
            for guest in ("a\x00b", "x" * 100):
                with pytest.raises(PayloadError):
                    one.publish(connection, Greeted(guest=guest))
            one.publish(connection, Greeted(guest="Ann"))
        assert len(outside.execute("SELECT * FROM outbox").fetchall()) == 1


class TestAnswer:
    def test_an_unknown_consumer_has_nothing_here(self, runtime: Any) -> None:
        assert runtime().answer("nobody") == 0

    def test_subscriptions_are_recorded_before_anything_is_handled(
        self, runtime: Any, outside: Any
    ) -> None:
        porch, garden = Context("porch"), Context("garden")

        @porch.handles(Greet, emits=(Greeted,))
        def greet(command: Greet, work: Work) -> None:
            work.publish(Greeted(guest=command.guest))

        heard: list[str] = []
        garden.reacts_to(Greeted)(lambda event, _: heard.append(event.guest))
        one = runtime([VISIT], [porch, garden])
        with one.engine.begin() as connection:
            one.start(connection, VISIT, Visit(guest="Ann"))
        one.answer("porch")
        one.answer("garden")
        assert heard == ["Ann"]

    def test_the_batch_is_the_settings(
        self, runtime: Any, outside: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limits: list[int] = []
        porch = Context("porch")
        porch.handles(Greet)(lambda command, work: None)  # noqa: ARG005
        one = runtime([VISIT], [porch], batch=3)
        with one.engine.begin() as connection:
            one.start_many(connection, VISIT, [Visit()] * 7)
        consumer = one._wiring.consumers["porch"]
        handle = consumer.handle

        def watched(hop: Any, limit: int) -> Any:
            limits.append(limit)
            return handle(hop, limit)

        monkeypatch.setattr(consumer, "handle", watched)
        assert one.answer("porch") == 7
        assert limits == [3, 3, 3]


def test_two_schemas_in_one_database_share_nothing(
    empty_settings: Settings, runtime: Any, owner: Any, outside: Any
) -> None:
    # The second one's name starts with the first one's, so that the test drops both.
    other = empty_settings.model_copy(
        update={"db_schema": f"{empty_settings.db_schema}_b", "namespace": "unused"}
    )
    migrate(owner, other.db_schema)
    try:
        porch = Context("porch")
        porch.handles(Greet)(lambda command, work: None)  # noqa: ARG005
        one = runtime([VISIT], [porch])
        two = runtime([VISIT], [porch], db_schema=other.db_schema)
        with one.engine.begin() as connection:
            one.start(connection, VISIT, Visit(), key="k")
        assert two.answer("porch") == 0
        with two.engine.begin() as connection:
            two.start(connection, VISIT, Visit(guest="Bob"), key="k")
        assert (one.answer("porch"), two.answer("porch")) == (1, 1)
    finally:
        with owner.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {other.db_schema} CASCADE"))


def test_a_suspect_is_leased_no_longer_than_the_bound(runtime: Any, outside: Any) -> None:
    """If its worker freezes the others wait for the end of the lease, and for no longer."""
    lengths: list[float] = []
    porch = Context("porch")

    @porch.handles(Greet)
    def greet(_: Greet, work: Work) -> None:
        asked = (
            "SELECT extract(epoch FROM due_at - claimed_at)::float FROM inbox WHERE message_id = %s"
        )
        lengths.extend(outside.execute(asked, [work.message_id]).fetchone())

    made = runtime([VISIT], [porch], frozen_after=10.0)
    with made.engine.begin() as connection:
        made.start(connection, VISIT, Visit())
    made.answer("saga.visit")
    outside.execute("UPDATE inbox SET rings = %s WHERE consumer = 'porch'", [SUSPECT_RINGS])
    made.answer("porch")
    [seconds] = lengths
    assert 0 < seconds < 2 * 10.0  # a lease ends at random, up to half of its length later
