"""Workers: one actor, one relay in each process, and no other process is needed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import dramatiq
import psycopg
import pytest
import redis
from dramatiq.encoder import JSONEncoder, PickleEncoder
from pydantic import BaseModel

from boundary import Runtime, Settings
from boundary.doorbell.redis_broker import DOORBELL
from boundary.doorbell.worker import RelayThread
from internals import Context, Work
from saga import Command, DefinitionError, Event, Saga, Step


class Walk(BaseModel):
    dog: str = "Rex"


class Lead(Command, kind="park.lead"):
    dog: str


class Led(Event, kind="park.led"):
    dog: str


def walk_saga() -> Saga[Walk]:
    return Saga(name="walk", data=Walk, steps=(Step("lead", lambda walk: Lead(dog=walk.dog)),))


WALK = walk_saga()


def park() -> Context:
    context = Context("park")

    @context.handles(Lead)
    def lead(command: Lead, work: Work) -> None: ...

    return context


@pytest.fixture
def run_worker() -> Iterator[Callable[[Runtime], dramatiq.Worker]]:
    """Start the Dramatiq worker of a runtime in this process; it is stopped after the test."""
    with ExitStack() as started:

        def run(runtime: Runtime) -> dramatiq.Worker:
            worker = dramatiq.Worker(runtime.worker(), worker_timeout=50, worker_threads=2)
            worker.start()
            started.callback(worker.stop)
            return worker

        yield run


@pytest.fixture
def statuses(outside: psycopg.Connection[Any]) -> Callable[[], set[str]]:
    """The statuses of all sagas."""
    return lambda: {row[0] for row in outside.execute("SELECT status FROM saga").fetchall()}


def start(runtime: Runtime, *dogs: str) -> None:
    with runtime.engine.begin() as connection:
        runtime.start_many(connection, WALK, [Walk(dog=dog) for dog in dogs or ("Rex",)])


class TestInstall:
    def test_each_consumer_has_a_queue_and_one_actor_answers(self, runtime: Any) -> None:
        broker = runtime([WALK], [park()]).worker()
        assert broker.get_declared_queues() == {"park", "saga.walk"}
        assert broker.get_declared_actors() == {DOORBELL}

    def test_twice_is_once(self, runtime: Any) -> None:
        one = runtime([WALK], [park()])
        assert one.worker() is one.worker()
        relays = [m for m in one._wiring.broker.middleware if isinstance(m, RelayThread)]
        assert len(relays) == 1

    def test_no_middleware_lets_a_message_name_actors_or_decides_in_memory(
        self, runtime: Any
    ) -> None:
        broker = runtime([WALK], [park()]).worker()
        assert [type(m) for m in broker.middleware] == [RelayThread]

    def test_the_global_broker_is_left_alone(
        self, runtime: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dramatiq.broker, "global_broker", None)
        runtime([WALK], [park()]).worker()
        assert dramatiq.broker.global_broker is None

    def test_a_process_without_consumers_is_a_worker_too(
        self, runtime: Any, run_worker: Any
    ) -> None:
        run_worker(runtime())

    def test_pickled_messages_are_refused(self, runtime: Any) -> None:
        before = dramatiq.get_encoder()
        dramatiq.set_encoder(PickleEncoder())
        try:
            with pytest.raises(DefinitionError, match="lets anyone who can write to Redis"):
                runtime([WALK], [park()]).worker()
        finally:
            dramatiq.set_encoder(before)
        assert isinstance(before, JSONEncoder)


class TestRelayThread:
    def test_a_saga_whose_doorbells_are_all_lost_is_completed(
        self,
        runtime: Any,
        run_worker: Any,
        statuses: Any,
        eventually: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        one = runtime([WALK], [park()], grace=0.05)
        ring = one._wiring.broker.ring

        def lose_those_of_commits(consumers: frozenset[str]) -> frozenset[str]:
            if threading.current_thread().name == "saga-relay":
                return ring(consumers)  # type: ignore[no-any-return]
            return frozenset()

        monkeypatch.setattr(one._wiring.broker, "ring", lose_those_of_commits)
        start(one, "Rex", "Ada")
        run_worker(one)
        eventually(lambda: statuses() == {"completed"})

    def test_what_was_started_before_is_found(
        self,
        runtime: Any,
        run_worker: Any,
        statuses: Any,
        eventually: Any,
        redis_client: redis.Redis,
        settings: Settings,
    ) -> None:
        host = runtime([WALK])
        start(host)
        redis_client.delete(f"{settings.namespace}:doorbell:park")
        run_worker(runtime([WALK], [park()]))
        eventually(lambda: statuses() == {"completed"})

    def test_a_retry_comes_back_by_itself(
        self, runtime: Any, run_worker: Any, statuses: Any, eventually: Any
    ) -> None:
        runs: list[str] = []
        context = Context("park")

        @context.handles(Lead)
        def lead(command: Lead, work: Work) -> None:
            runs.append(command.dog)
            if len(runs) < 3:
                raise ValueError

        one = runtime([WALK], [context])
        start(one)
        run_worker(one)
        eventually(lambda: statuses() == {"completed"})
        assert runs == ["Rex"] * 3

    def test_a_worker_that_only_listens_subscribes_when_it_boots(
        self, runtime: Any, run_worker: Any, outside: Any, eventually: Any
    ) -> None:
        # Nobody sends it anything before that, so no doorbell would ever make it subscribe.
        vet = Context("vet")

        @vet.reacts_to(Led)
        def watch(event: Led, work: Work) -> None: ...

        run_worker(runtime([], [vet]))
        eventually(
            lambda: (
                outside.execute("SELECT kind, consumer FROM subscription").fetchall()
                == [(Led.kind, "vet")]
            ),
            what="its subscription",
        )

    def test_it_ends_with_its_worker(self, runtime: Any) -> None:
        one = runtime([WALK], [park()])
        worker = dramatiq.Worker(one.worker(), worker_timeout=50, worker_threads=1)
        worker.start()
        assert "saga-relay" in {thread.name for thread in threading.enumerate()}
        worker.stop()
        assert "saga-relay" not in {thread.name for thread in threading.enumerate()}
