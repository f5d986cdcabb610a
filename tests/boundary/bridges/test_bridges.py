"""Events go out to Kafka and to Redis Streams, and come in from them: once, and in order."""

import os
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from boundary import Runtime
from boundary.bridges import IncomingBridge, KafkaTopic, OutgoingBridge, RedisStream
from boundary.bridges.cloud_event import CloudEvent
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from saga import SETTLED, Command, DefinitionError, Saga, Step
from tests.boundary.bridges.bridged_systems import (
    Docked,
    Harbour,
    Kafka,
    Left,
    Station,
    saga,
    stopped,
    written,
)
from tests.conftest import worker_environment

WHY = "mended"

_SAGA = str(Path(sys.executable).parent / "saga")

STATION = """
from boundary import Runtime
from boundary.bridges import IncomingBridge, RedisStream
from internals import Context
from saga import Event

class Docked(Event, kind="harbour.docked"):
    ship: str
    berth: int

pilots = Context("pilots")
pilots.reacts_to(Docked)(lambda event, work: None)
runtime = Runtime(
    contexts=[pilots, IncomingBridge("sea", RedisStream("{key}", "{url}"), events=[Docked])]
)
"""

#: A receiver that is killed when it has stored what it read and is about to confirm it.
DYING = """
import os, signal
from tests.boundary.bridges.bridged_systems import Docked
from boundary import Runtime
from boundary.bridges import IncomingBridge, KafkaTopic, RedisStream
from internals import Context

stream = {stream}

if "DIES" in os.environ:
    source = stream.source

    def dying(group):
        made = source(group)
        poll = made.poll

        def seen(limit):
            events = poll(limit)
            if events:
                made.confirm = lambda: os.kill(os.getpid(), signal.SIGKILL)
            return events

        made.poll = seen
        return made

    stream.source = dying

pilots = Context("pilots")
pilots.reacts_to(Docked, ordered_by="ship")(lambda event, work: None)
runtime = Runtime(contexts=[pilots, IncomingBridge("sea", stream, events=[Docked])])
"""


def _more(value: bytes) -> bytes:
    """An event with a field that this release does not know."""
    return b'{"ship": "Bo", "berth": 1, "more": %s}' % value


def read_all(stream: Any, count: int) -> list[CloudEvent]:
    """Read from the beginning until so many different events were there; some come twice."""
    found: list[CloudEvent] = []
    with closing(_reader(stream)) as source:
        while len({event.id for event in found}) < count:
            found += source.poll(100)
    return found


def _reader(stream: Any) -> Any:
    if isinstance(stream, RedisStream):
        return stream.source("reader-of-the-test")
    source = stream.source("reader-of-the-test")
    # Without waiting for a group to form.
    beginning = [TopicPartition(stream.topic, number, OFFSET_BEGINNING) for number in range(4)]
    source._consumer.unsubscribe()
    source._consumer.assign(beginning)
    return source


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
            mended.runtime.acts.retry_parked(joined(connection), [id], actor="ann", reason=WHY)
        mended.send()
        assert [state for state, *_ in mended.deliveries()] == ["done"]


class TestIn:
    def test_what_went_out_of_one_system_comes_into_another(
        self, harbour: Harbour, station: Station
    ) -> None:
        harbour.dock("Ellen", 1, 2, 3)
        harbour.send()
        station.hear(3)
        assert station.noted() == [("Ellen", 1), ("Ellen", 2), ("Ellen", 3)]

    def test_read_again_it_is_known(self, harbour: Harbour, station: Station) -> None:
        """The reader dies between its commit and its confirmation."""
        harbour.dock("Ellen", 1, 2)
        harbour.send()
        taken = 0
        while taken < 2:
            events = station.source.poll(10)
            station.receiver._take(events)
            taken += len(events)
        station.source.close()
        station.hear(2)
        assert station.noted() == [("Ellen", 1), ("Ellen", 2)]

    def test_nothing_is_confirmed_that_was_not_stored(
        self, harbour: Harbour, station: Station
    ) -> None:
        harbour.dock("Ellen", 1)
        harbour.send()

        def fail(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.HOP, "before"):
                raise psycopg.OperationalError("the server is gone")

        watch(fail)
        try:
            with pytest.raises(psycopg.OperationalError):
                station.hear(1)
        finally:
            watch(None)
        station.source.close()
        station.hear(1)
        assert station.noted() == [("Ellen", 1)]

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_it_goes_on_when_a_server_was_away(
        self, harbour: Harbour, station: Station, eventually: Any
    ) -> None:
        harbour.dock("Ellen", 1)
        harbour.send()
        failures = iter([psycopg.OperationalError("gone"), psycopg.OperationalError("still gone")])

        def fail(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.HOP, "before"):
                for error in failures:
                    raise error

        stop = threading.Event()
        reading = threading.Thread(target=station.receiver.run, args=[stop])
        watch(fail)
        reading.start()
        try:
            eventually(
                lambda: station.outside.execute("SELECT 1 FROM inbox").fetchone(), 60, "it to come"
            )
        finally:
            watch(None)
            stop.set()
            reading.join()
        station.work()
        assert station.noted() == [("Ellen", 1)]

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_it_does_not_know_is_passed_over(self, harbour: Harbour, station: Station) -> None:
        with harbour.runtime.engine.begin() as connection:
            harbour.runtime.publish(connection, Left(ship="Ellen"))
        harbour.send()
        station.hear(1)
        assert station.outside.execute("SELECT count(*) FROM outbox").fetchone() == (0,)

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    @pytest.mark.parametrize(
        ("attributes", "data", "says"),
        [
            ({"type": "harbour.docked"}, b"{}", "'id' is missing"),
            ({"type": "harbour.docked", "id": "1"}, b"no JSON", "harbour.docked"),
            ({"type": "harbour.docked", "id": "1"}, b'{"ship": "Bo"}', "berth"),
            ({"type": "harbour.docked", "id": "1", "specversion": "0.3"}, b"{}", "0.3"),
            ({"type": "harbour.docked", "id": "1"}, b'"' + b"x" * 300_000 + b'"', "docked"),
        ],
    )
    def test_what_cannot_be_read_is_parked_and_holds_up_nothing(
        self,
        station: Station,
        stream: Any,
        attributes: dict[str, str],
        data: bytes,
        says: str,
    ) -> None:
        named = {"specversion": "1.0", "source": "elsewhere", **attributes}
        put(stream, CloudEvent({"id": "", **named} if "id" not in named else named, data))
        put(stream, _docked("Ellen", 5))
        station.hear(2)
        assert station.noted() == [("Ellen", 5)]
        [(_, error)] = station.parked()
        assert says in error or "too large" in error

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_a_partner_added_is_ignored_and_kept(self, station: Station, stream: Any) -> None:
        put(stream, CloudEvent(_docked("Bo", 1).attributes, _more(b'{"tons": [7]}')))
        put(stream, _docked("Ellen", 5))
        station.hear(2)
        assert station.noted() == [("Bo", 1), ("Ellen", 5)]
        assert station.parked() == []
        kept = station.outside.execute("SELECT payload FROM outbox ORDER BY seq").fetchall()
        assert kept == [
            ({"ship": "Bo", "berth": 1, "more": {"tons": [7]}},),
            ({"ship": "Ellen", "berth": 5},),
        ]

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    @pytest.mark.parametrize("more", [b"NaN", b"1e999", b'"\\u0000"'])
    def test_what_no_database_can_hold_of_it_stays_with_the_bridge(
        self, station: Station, stream: Any, more: bytes
    ) -> None:
        put(stream, CloudEvent(_docked("Bo", 1).attributes, _more(more)))
        put(stream, _docked("Ellen", 5))
        station.hear(2)
        assert sorted(station.noted()) == [("Bo", 1), ("Ellen", 5)]
        assert station.parked() == []
        [(unread,)] = station.outside.execute(
            "SELECT payload FROM outbox WHERE kind = 'sea.unread'"
        ).fetchall()
        assert b64decode(unread["data"]) == _more(more)

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_it_is_read_when_it_can_be(
        self, station: Station, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(stream, CloudEvent(_docked("Bo", 1).attributes, b'{"ship": "Bo"}'))
        station.hear(1)
        [(id, _)] = station.parked()
        later = lambda _: Docked(ship="Bo", berth=0)  # noqa: E731 - of a later release
        monkeypatch.setattr(station.bridge, "read", later)
        with station.runtime.engine.begin() as connection:
            station.runtime.acts.retry_parked(joined(connection), [id], actor="ann", reason=WHY)
        station.work()
        assert station.noted() == [("Bo", 0)]
        assert station.parked() == []

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_ids_that_are_no_uuids_are_known_by_their_source(
        self, station: Station, stream: Any
    ) -> None:
        for source in ("north", "north", "south"):
            event = _docked("Bo", 1)
            put(stream, CloudEvent({**event.attributes, "id": "7", "source": source}, event.data))
        station.hear(3)
        assert station.noted() == [("Bo", 1), ("Bo", 1)]


class TestReaders:
    def test_another_reader_takes_over_what_a_dead_one_left(
        self, settings: Any, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of Redis Streams; a group of Kafka's does it by itself."""
        monkeypatch.setattr("boundary.bridges.redis_stream._LEFT_ALONE_MS", 0)
        key, url = f"{settings.namespace}:ships", settings.redis_url.get_secret_value()
        put(RedisStream(key, url), _docked("Ellen", 1))
        dead = RedisStream(key, url, reader="dead").source("sea")
        assert len(dead.poll(10)) == 1
        living = RedisStream(key, url, reader="living").source("sea")
        [event] = living.poll(10)
        assert event.id == "Ellen-1"
        living.confirm()
        assert redis_client.xpending(key, "sea")["pending"] == 0

    def test_one_that_starts_again_reads_first_what_it_left(
        self, settings: Any, redis_client: redis.Redis
    ) -> None:
        key, url = f"{settings.namespace}:ships", settings.redis_url.get_secret_value()
        stream = RedisStream(key, url)
        put(stream, _docked("Ellen", 1))
        assert len(stream.source("sea").poll(1)) == 1
        put(stream, _docked("Ellen", 2))
        again = stream.source("sea")
        assert [e.id for _ in range(2) for e in again.poll(1)] == ["Ellen-1", "Ellen-2"]
        again.confirm()
        assert redis_client.xpending(key, "sea")["pending"] == 0


class Call(Command, kind="berths.call"):
    ship: str


def _berths() -> Context:
    """Tells of each call, to whom an outgoing bridge takes it."""
    berths = Context("berths")

    @berths.handles(Call, emits=(Left,))
    def tell(command: Call, work: Work) -> None:
        work.publish(Left(ship=command.ship))

    return berths


@pytest.fixture
def out(elsewhere: Any) -> OutgoingBridge:
    """Takes calls to those who answer them."""
    calls = RedisStream(f"{elsewhere.namespace}:calls", elsewhere.redis_url.get_secret_value())
    return OutgoingBridge("out", calls, events={Left: None})


def _gone_out(station: Station) -> UUID:
    """Have a call go out; returns its id, which is what those outside know of it."""
    for name in ("saga.visit", "berths", "out"):
        station.runtime.answer(name)
    [(called,)] = station.outside.execute(
        "SELECT id FROM outbox WHERE kind = 'harbour.left'"
    ).fetchall()
    return called


def _visit(*, until: Any) -> Saga[Call]:
    return Saga("visit", Call, steps=(Step("berth", lambda call: call, until=until),))


def _call(station: Station, visit: Saga[Call]) -> UUID:
    with station.runtime.engine.begin() as connection:
        return station.runtime.start(connection, visit, Call(ship="Ellen"))


def _docked_because_of(cause: UUID) -> CloudEvent:
    event = _docked("Ellen", 4)
    return CloudEvent({**event.attributes, "causationid": str(cause)}, event.data)


class TestSagas:
    def test_a_context_elsewhere_answers_a_step(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        """The pilot is called by an event; what the other side says of it ends the step."""
        visit = _visit(until=Docked)
        station = Station(elsewhere, apart, stream, [_berths(), out], [visit], joins_sagas=True)
        id = _call(station, visit)
        put(stream, _docked_because_of(_gone_out(station)))
        station.hear(1)
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "completed"
        assert station.noted() == [("Ellen", 4)]
        station.close()

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_the_stream_gives_again_is_not_waited_for_twice(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        """A reader that died before it had confirmed an event is given it once more."""
        visit, watch = _visit(until=SETTLED), Context("watch")
        watch.reacts_to(Left)(lambda _, __: None)
        contexts = [_berths(), watch, out]
        station = Station(elsewhere, apart, stream, contexts, [visit], joins_sagas=True)
        id = _call(station, visit)
        called = _gone_out(station)
        for _ in range(2):
            put(stream, _docked_because_of(called))
            station.hear(1)
        assert station.noted() == [("Ellen", 4)]
        repeats = apart.execute(
            "SELECT repeats FROM outbox WHERE kind = 'harbour.docked'"
        ).fetchall()
        assert repeats == [(1,)]
        assert apart.execute("SELECT open FROM settling").fetchall() == [(1,)]
        station.runtime.answer("watch")
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "completed"
        station.close()

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_nobody_answers_for_a_step_where_that_is_not_asked_for(
        self, elsewhere: Any, apart: Any, stream: Any, out: OutgoingBridge
    ) -> None:
        visit = _visit(until=Docked)
        station = Station(elsewhere, apart, stream, [_berths(), out], [visit])
        id = _call(station, visit)
        put(stream, _docked_because_of(_gone_out(station)))
        station.hear(1)
        station.runtime.answer("saga.visit")
        assert _status(apart, id) == "running"
        station.close()


class TestDeclared:
    def test_a_field_that_an_event_does_not_have(self) -> None:
        with pytest.raises(DefinitionError, match="no field 'captain' to be ordered by"):
            OutgoingBridge("out", RedisStream("s", "redis://x"), events={Docked: "captain"})

    @pytest.mark.parametrize("events", [[], [Docked(ship="x", berth=1)], [Command]])
    def test_what_is_no_event_does_not_come_in(self, events: Any) -> None:
        with pytest.raises(DefinitionError, match="Incoming bridge 'sea'"):
            IncomingBridge("sea", RedisStream("s", "redis://x"), events=events)

    def test_no_event_goes_out(self) -> None:
        with pytest.raises(DefinitionError, match="name an event that goes out"):
            OutgoingBridge("out", RedisStream("s", "redis://x"), events={})

    def test_a_bridge_that_is_not_there(self, runtime: Any) -> None:
        with pytest.raises(DefinitionError, match="no incoming bridge 'sea' here"):
            runtime([], []).receiver("sea")


def put(stream: Any, event: CloudEvent) -> None:
    """Put something on a stream as another system does."""
    sink = stream.sink()
    assert sink.send([event]) == {}
    sink.close()


def _docked(ship: str, berth: int) -> CloudEvent:
    attributes = {
        "specversion": "1.0",
        "id": f"{ship}-{berth}",
        "source": "elsewhere",
        "type": "harbour.docked",
        "partitionkey": ship,
    }
    return CloudEvent(attributes, Docked(ship=ship, berth=berth).to_json().encode())


def _status(outside: Any, id: UUID) -> str:
    return str(outside.execute("SELECT status FROM saga WHERE id = %s", [id]).fetchone()[0])


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


class TestCommand:
    def test_a_receiver_ends_when_it_is_told_to(
        self, settings: Any, tmp_path: Any, outside: Any, eventually: Any
    ) -> None:
        key, url = f"{settings.namespace}:ships", settings.redis_url.get_secret_value()
        (tmp_path / "station.py").write_text(STATION.format(key=key, url=url))
        put(RedisStream(key, url), _docked("Ellen", 4))
        with subprocess.Popen(
            [_SAGA, "--app", "station:runtime", "bridge", "receive", "sea"],
            cwd=tmp_path,
            env=os.environ | worker_environment(settings),
            stdout=subprocess.PIPE,
            text=True,
        ) as receiver:
            eventually(lambda: outside.execute("SELECT 1 FROM inbox").fetchone(), 60, "it to come")
            receiver.terminate()
            assert receiver.wait(30) == 0
            assert receiver.stdout is not None
            assert receiver.stdout.read() == "sea: reading\n"

    def test_one_that_is_killed_between_its_commit_and_its_confirmation_does_nothing_twice(
        self, elsewhere: Any, station: Station, stream: Any, tmp_path: Any, eventually: Any
    ) -> None:
        receive = ("bridge", "receive", "sea")
        (tmp_path / "ports_of_call.py").write_text(DYING.format(stream=written(stream)))
        put(stream, _docked("Ellen", 1))
        with saga(tmp_path, "runtime", elsewhere, *receive, DIES="yes") as dying:
            assert dying.wait(60) == -signal.SIGKILL
        assert _stored(station) == [1]
        # The next one is given the first again before it comes to the second, of the same key.
        put(stream, _docked("Ellen", 2))
        with saga(tmp_path, "runtime", elsewhere, *receive) as next_:
            eventually(lambda: 2 in _stored(station), 60, "the second to come")
            next_.terminate()
            assert next_.wait(30) == 0
        assert _stored(station) == [1, 2]
        station.work()
        assert station.noted() == [("Ellen", 1), ("Ellen", 2)]


def _stored(station: Station) -> list[int]:
    return [
        Docked.from_json(payload).berth
        for (payload,) in station.outside.execute("SELECT payload::text FROM outbox ORDER BY seq")
    ]
