"""The doorbell broker on real Redis: it wakes, it caps, and nothing in it has any authority."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import dramatiq
import pytest
import redis

from boundary.doorbell.redis_broker import DOORBELL, DoorbellBroker, doorbell
from boundary.settings import Settings

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def make_broker(settings: Settings) -> Iterator[Callable[..., DoorbellBroker]]:
    """Make brokers on this test's namespace, or on another."""
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    with ExitStack() as made:

        def make(url: str = url, namespace: str = settings.namespace) -> DoorbellBroker:
            broker = DoorbellBroker(url=url, namespace=namespace)
            made.callback(broker.client.close)
            made.callback(broker.close)
            return broker

        yield make


@pytest.fixture
def broker(make_broker: Callable[..., DoorbellBroker]) -> DoorbellBroker:
    broker = make_broker()
    broker.declare_doorbell("bakery")
    return broker


@pytest.fixture
def run_worker() -> Iterator[Callable[..., dramatiq.Worker]]:
    """Start Dramatiq workers in this process; they are stopped after the test."""
    with ExitStack() as started:

        def run(broker: dramatiq.Broker, threads: int = 2) -> dramatiq.Worker:
            worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=threads)
            worker.start()
            started.callback(worker.stop)
            return worker

        yield run


@pytest.fixture
def key(settings: Settings) -> str:
    """The Redis key of the bakery's doorbells."""
    return f"{settings.namespace}:doorbell:bakery"


def hear(broker: DoorbellBroker, threads: int = 4) -> Any:
    """Listen as a worker with so many threads does."""
    return broker.consume("bakery", prefetch=2 * threads, timeout=50)


class TestRing:
    def test_who_is_rung_has_a_doorbell_waiting(self, broker: DoorbellBroker) -> None:
        broker.ring(["bakery", "mill"])
        assert broker.waiting(["bakery", "mill", "field"]) == {"bakery": 1, "mill": 1, "field": 0}

    def test_a_queue_holds_so_many_and_no_more(self, broker: DoorbellBroker) -> None:
        for _ in range(50):
            broker.ring(["bakery"])
        broker.ring(["mill"])
        assert broker.waiting(["bakery", "mill"]) == {"bakery": 8, "mill": 1}

    def test_many_are_rung_in_one_round_trip(
        self, broker: DoorbellBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker.ring(["bakery"])  # it is connected from now on
        sent: list[Any] = []
        send = redis.Connection.send_packed_command

        def count(self: redis.Connection, *args: Any, **options: Any) -> Any:
            sent.append(args)
            return send(self, *args, **options)  # type: ignore[no-untyped-call]

        monkeypatch.setattr(redis.Connection, "send_packed_command", count)
        broker.ring([f"c{n}" for n in range(100)])
        assert len(sent) == 1

    def test_nobody_to_ring_is_no_round_trip(self, make_broker: Any) -> None:
        make_broker(NOWHERE).ring([])

    def test_a_redis_that_is_away_is_not_the_caller_s_trouble(
        self, make_broker: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = make_broker(NOWHERE)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert broker.ring(["bakery"]) == {"bakery"}
                assert broker.waiting(["bakery"]) is None
        (told,) = caplog.records  # once
        assert told.levelname == "WARNING"
        assert "Redis cannot be used (ConnectionError: " in told.message

    def test_namespaces_share_nothing(self, make_broker: Any, settings: Settings) -> None:
        one = make_broker()
        two = make_broker(namespace=f"{settings.namespace}:other")
        two.declare_doorbell("bakery")
        one.ring(["bakery"])
        assert two.waiting(["bakery"]) == {"bakery": 0}
        assert next(hear(two)) is None
        assert one.waiting(["bakery"]) == {"bakery": 1}

    def test_an_enqueued_doorbell_is_rung(self, broker: DoorbellBroker) -> None:
        broker.enqueue(doorbell("bakery"))
        assert broker.waiting(["bakery"]) == {"bakery": 1}


class TestConsume:
    def test_a_waiting_consumer_is_woken(self, broker: DoorbellBroker) -> None:
        consumer = broker.consume("bakery", prefetch=2, timeout=60_000)
        with ThreadPoolExecutor(1) as pool:
            heard = pool.submit(next, consumer)
            broker.ring(["bakery"])
            message = heard.result(30)  # half of what it would have waited by itself
        assert message is not None
        assert (message.actor_name, message.args) == (DOORBELL, ("bakery",))

    def test_each_doorbell_is_heard_by_one(self, broker: DoorbellBroker) -> None:
        broker.ring(["bakery"])
        heard = [next(hear(broker)), next(hear(broker))]
        assert [message is not None for message in heard] == [True, False]

    def test_a_worker_takes_no_more_than_it_has_threads_for(self, broker: DoorbellBroker) -> None:
        for _ in range(4):
            broker.ring(["bakery"])
        consumer = hear(broker, threads=2)
        first, second = next(consumer), next(consumer)
        assert next(consumer) is None
        assert broker.waiting(["bakery"]) == {"bakery": 2}
        consumer.ack(first)
        assert next(consumer) is not None
        assert next(consumer) is None
        consumer.nack(second)
        assert next(consumer) is not None

    def test_an_answer_to_what_an_earlier_connection_heard_makes_no_room(
        self, broker: DoorbellBroker
    ) -> None:
        for _ in range(3):
            broker.ring(["bakery"])
        before = next(hear(broker, threads=1))
        consumer = hear(broker, threads=1)  # as Dramatiq makes it anew after an outage
        assert next(consumer) is not None
        consumer.ack(before)
        assert next(consumer) is None
        assert broker.waiting(["bakery"]) == {"bakery": 1}

    @pytest.mark.parametrize(
        "forged",
        [
            b"\x80\x04\x95 not even a pickle",
            b"{",
            b"\xff\xfe",
            b"x" * 100_000,
            json.dumps(
                {
                    "queue_name": "bakery",
                    "actor_name": "evil",
                    "args": ["mill"],
                    "kwargs": {},
                    "options": {"on_success": "evil", "pipe_target": {}, "eta": 0},
                    "message_id": "1",
                    "message_timestamp": 1,
                }
            ).encode(),
        ],
        ids=["pickle", "cut", "bytes", "large", "options"],
    )
    def test_a_forged_entry_is_a_doorbell_and_no_more(
        self, broker: DoorbellBroker, redis_client: redis.Redis, key: str, forged: bytes
    ) -> None:
        redis_client.rpush(key, forged)
        message = next(hear(broker))
        assert message is not None
        assert message.actor_name == DOORBELL
        assert (message.args, message.kwargs, message.options) == (("bakery",), {}, {})

    def test_a_key_of_another_type_is_an_outage_and_not_a_crash(
        self, broker: DoorbellBroker, redis_client: redis.Redis, key: str
    ) -> None:
        redis_client.set(key, "not a list")
        assert broker.ring(["bakery"]) == {"bakery"}
        assert next(hear(broker)) is None

    def test_a_list_that_somebody_filled_is_cut_to_what_is_worth_waiting(
        self, broker: DoorbellBroker, redis_client: redis.Redis, key: str
    ) -> None:
        redis_client.rpush(key, *[b""] * 5000)
        consumer = hear(broker)
        heard = 0
        while (message := next(consumer)) is not None:
            heard += 1
            consumer.ack(message)
        assert heard < 100

    def test_what_was_heard_and_not_answered_is_rung_again(self, broker: DoorbellBroker) -> None:
        for _ in range(3):
            broker.ring(["bakery"])
        consumer = hear(broker)
        heard = [next(consumer) for _ in range(3)]
        consumer.requeue(heard)
        assert broker.waiting(["bakery"]) == {"bakery": 3}
        consumer.requeue([])
        assert broker.waiting(["bakery"]) == {"bakery": 3}

    def test_a_redis_that_is_away_is_waited_for(self, make_broker: Any) -> None:
        # Dramatiq is not told: it would pause for seconds, and not notice that it is to stop.
        broker = make_broker(NOWHERE)
        broker.declare_doorbell("bakery")
        assert next(hear(broker)) is None
        assert broker.deaf() == {"bakery"}

    def test_a_redis_that_is_away_when_the_worker_stops_does_not_break_the_stop(
        self, make_broker: Any
    ) -> None:
        broker = make_broker(NOWHERE)
        broker.declare_doorbell("bakery")
        hear(broker).requeue([dramatiq.MessageProxy(doorbell("bakery"))])


class TestWorker:
    def test_a_doorbell_runs_the_actor_and_the_next_one_too(
        self, broker: DoorbellBroker, run_worker: Any, eventually: Any
    ) -> None:
        answered: list[str] = []
        dramatiq.actor(broker=broker, actor_name=DOORBELL, queue_name="bakery")(answered.append)
        run_worker(broker)
        for n in range(1, 4):
            broker.ring(["bakery"])
            eventually(lambda n=n: len(answered) == n)
        assert answered == ["bakery"] * 3

    def test_an_answer_that_raises_is_not_the_end(
        self, broker: DoorbellBroker, run_worker: Any, eventually: Any
    ) -> None:
        answered: list[str] = []

        def answer(consumer: str) -> None:
            answered.append(consumer)
            raise ZeroDivisionError

        dramatiq.actor(broker=broker, actor_name=DOORBELL, queue_name="bakery")(answer)
        run_worker(broker, threads=1)
        for n in range(1, 6):
            broker.ring(["bakery"])
            eventually(lambda n=n: len(answered) == n)
        assert broker.waiting(["bakery"]) == {"bakery": 0}  # nothing is tried again in memory

    def test_a_worker_that_stops_gives_back_what_it_has_not_answered(
        self, broker: DoorbellBroker, run_worker: Any, eventually: Any
    ) -> None:
        inside, leave = threading.Event(), threading.Event()
        answered: list[str] = []

        def answer(consumer: str) -> None:
            inside.set()
            assert leave.wait(20)
            answered.append(consumer)

        broker.declare_doorbell("mill")
        dramatiq.actor(broker=broker, actor_name=DOORBELL, queue_name="bakery")(answer)
        for _ in range(3):
            broker.ring(["bakery", "mill"])
        worker = run_worker(broker, threads=1)
        assert inside.wait(20)
        # One is being answered, one of the other consumer waits in this process.
        eventually(lambda: broker.waiting(["bakery", "mill"]) == {"bakery": 2, "mill": 2})
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(worker.stop)
            eventually(lambda: not worker.workers[0].running)
            leave.set()
            stopping.result(20)
        left = broker.waiting(["bakery", "mill"])
        assert left is not None
        assert sum(left.values()) + len(answered) == 6

    def test_other_actors_work_on_the_same_broker(
        self, broker: DoorbellBroker, run_worker: Any, eventually: Any
    ) -> None:
        baked: list[int] = []
        bake = dramatiq.actor(broker=broker, actor_name="bake", queue_name="oven")(baked.append)
        run_worker(broker)
        bake.send(3)
        bake.send_with_options(args=(4,), delay=1)
        eventually(lambda: sorted(baked) == [3, 4])
        assert broker.get_declared_queues() == {"bakery", "oven"}

    def test_middleware_that_lets_a_message_name_actors_is_not_there(
        self, broker: DoorbellBroker
    ) -> None:
        assert broker.middleware == []


def test_declaring_a_doorbell_twice_changes_nothing(broker: DoorbellBroker) -> None:
    broker.declare_doorbell("bakery")
    assert broker.get_declared_queues() == {"bakery"}
