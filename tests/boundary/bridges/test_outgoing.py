"""Events go out to Kafka and to Redis Streams: once, and in order, whatever is in the way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from boundary import Runtime
from boundary.bridges import KafkaTopic, OutgoingBridge, RedisStream
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from tests.boundary.bridges.bridged_systems import Docked, Harbour, Kafka, Left, stopped
from tests.boundary.bridges.streams import WHY, read_all


class TestOut:
    def test_an_event_travels_with_its_place_in_the_record(
        self, harbour: Harbour, stream: Any
    ) -> None:
        [id] = harbour.dock("Ellen", 4)
        harbour.send()
        [event] = read_all(stream, 1)
        time = event.attributes["time"]
        assert dict(event.attributes) == {
            "specversion": "1.0",
            "id": str(id),
            "source": "host",
            "type": "harbour.docked",
            "time": time,
            "datacontenttype": "application/json",
            "partitionkey": "Ellen",
        }
        assert time.endswith("Z")
        assert Docked.from_json(event.data) == Docked(ship="Ellen", berth=4)
        assert harbour.deliveries() == [("done", 0, None)]

    def test_one_without_a_key_has_none(self, harbour: Harbour, stream: Any) -> None:
        with harbour.runtime.engine.begin() as connection:
            harbour.runtime.publish(connection, Left(ship="Ellen"))
        harbour.send()
        [event] = read_all(stream, 1)
        assert event.key is None

    def test_of_one_key_the_order_is_kept_with_two_workers(
        self, harbour: Harbour, runtime: Any, stream: Any
    ) -> None:
        ships = ["Ann", "Bo", "Cy"]
        for berth in range(8):
            for ship in ships:
                harbour.dock(ship, berth)
        other: Runtime = runtime([], [OutgoingBridge("out", stream, events={Docked: "ship"})])

        with ThreadPoolExecutor() as pool:
            list(pool.map(_send_all, [harbour.runtime, other]))
        found = [Docked.from_json(event.data) for event in read_all(stream, 24)]
        for ship in ships:
            assert [docked.berth for docked in found if docked.ship == ship] == list(range(8))

    def test_a_worker_that_dies_before_its_commit_sends_it_again_under_the_same_id(
        self, harbour: Harbour, stream: Any
    ) -> None:
        """When its lease has ended: it is claimed in a transaction of its own."""
        [id] = harbour.dock("Ellen", 4)

        def die(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.LEASED, "before"):
                raise KeyboardInterrupt

        watch(die)
        try:
            with pytest.raises(KeyboardInterrupt):
                harbour.send()
        finally:
            watch(None)
        harbour.outside.execute("UPDATE inbox SET due_at = now()")
        harbour.send()
        harbour.dock("Ellen", 5)
        harbour.send()
        assert [event.id for event in read_all(stream, 2)].count(str(id)) == 2


class TestOutInTrouble:
    @pytest.fixture
    def stoppable(self) -> Iterator[Kafka]:
        """A cluster of this test's own, which does not answer while it is stopped."""
        cluster = Kafka()
        yield cluster
        cluster.kill()

    def test_kafka_is_down_and_nothing_is_lost_or_blamed(
        self, runtime: Any, outside: Any, stoppable: Kafka
    ) -> None:
        topic = KafkaTopic("ships", stoppable.servers)
        harbour = Harbour(runtime, outside, topic)
        harbour.dock("Ellen", 0)
        harbour.send()
        with stopped(stoppable.process.pid):
            harbour.dock("Ellen", 1, 2)
            harbour.dock("Bo", 1)
            harbour.send()
            states = harbour.deliveries()
            assert [state for state, *_ in states] == ["done", "pending", "pending", "pending"]
            assert [attempts for _, attempts, _ in states] == [0] * 4
            assert any(error for *_, error in states)
        send_until_done(harbour)
        found = [Docked.from_json(event.data) for event in read_all(topic, 4)]
        berths = list(dict.fromkeys(each.berth for each in found if each.ship == "Ellen"))
        assert berths == [0, 1, 2]
        assert any(each.ship == "Bo" for each in found)

    def test_redis_is_down_and_nothing_is_lost_or_blamed(
        self, runtime: Any, outside: Any, own_servers: Any
    ) -> None:
        stream = RedisStream("ships", own_servers.redis_url)
        with redis.Redis.from_url(own_servers.redis_url) as client:
            pid = client.info("server")["process_id"]
        harbour = Harbour(runtime, outside, stream)
        with stopped(pid):
            harbour.dock("Ellen", 1, 2)
            harbour.send()
            [(state, attempts, error), _] = harbour.deliveries()
            assert (state, attempts) == ("pending", 0)
            assert error
        send_until_done(harbour)
        found = [Docked.from_json(event.data) for event in read_all(stream, 2)]
        assert list(dict.fromkeys(each.berth for each in found)) == [1, 2]

    def test_nothing_is_claimed_while_the_stream_is_known_to_be_away(
        self, runtime: Any, outside: Any
    ) -> None:
        harbour = Harbour(runtime, outside, RedisStream("ships", "redis://127.0.0.1:1/0"))
        harbour.dock("Ellen", 1)
        harbour.dock("Bo", 1)
        harbour.send()
        outside.execute("UPDATE inbox SET due_at = now()")
        assert harbour.runtime.answer("out") == 0

    def test_what_kafka_will_never_take_is_parked_and_holds_up_its_key_alone(
        self, runtime: Any, outside: Any, kafka: Kafka
    ) -> None:
        topic = KafkaTopic("narrow", kafka.servers, config={"message.max.bytes": 2000})
        harbour = Harbour(runtime, outside, topic)
        harbour.dock("E" * 3000, 1)
        harbour.dock("Bo", 1)
        harbour.send()
        [(state, _, error), other] = harbour.deliveries()
        assert state == "parked"
        assert error is not None
        assert "EventRefused" in error
        assert other == ("done", 0, None)

    def test_a_parked_event_is_retried(self, runtime: Any, outside: Any, kafka: Kafka) -> None:
        narrow = KafkaTopic("narrow", kafka.servers, config={"message.max.bytes": 2000})
        [id] = Harbour(runtime, outside, narrow).dock("E" * 3000, 1)
        Harbour(runtime, outside, narrow).send()
        mended = Harbour(runtime, outside, KafkaTopic("wide", kafka.servers))
        with mended.runtime.engine.begin() as connection:
            mended.runtime._administration.acts.parked.retry(
                joined(connection), [id], actor="ann", reason=WHY
            )
        mended.send()
        assert [state for state, *_ in mended.deliveries()] == ["done"]


def send_until_done(harbour: Harbour) -> None:
    """Send until nothing is pending; what waits to be tried again is tried when it is due."""
    while any(state == "pending" for state, *_ in harbour.deliveries()):
        harbour.runtime.answer("out")


def _send_all(one: Runtime) -> None:
    """Answer until nothing is pending, as a worker of its own."""
    with one.engine.connect() as connection:
        while connection.exec_driver_sql(
            "SELECT 1 FROM inbox WHERE state = 'pending' LIMIT 1"
        ).fetchone():
            connection.rollback()
            one.answer("out")
