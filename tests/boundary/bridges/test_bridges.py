"""Events go out to Kafka and to Redis Streams, and come in from them: once, and in order."""

import os
import signal
import subprocess
import sys
import threading
from base64 import b64decode
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from boundary.bridges import IncomingBridge, OutgoingBridge, RedisStream
from boundary.bridges.cloud_event import CloudEvent
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from saga import Command, DefinitionError
from tests.boundary.bridges.bridged_systems import Docked, Harbour, Left, Station, saga, written
from tests.boundary.bridges.streams import WHY, docked, put
from tests.conftest import worker_environment

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
        put(stream, docked("Ellen", 5))
        station.hear(2)
        assert station.noted() == [("Ellen", 5)]
        [(_, error)] = station.parked()
        assert says in error or "too large" in error

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_a_partner_added_is_ignored_and_kept(self, station: Station, stream: Any) -> None:
        put(stream, CloudEvent(docked("Bo", 1).attributes, _more(b'{"tons": [7]}')))
        put(stream, docked("Ellen", 5))
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
        put(stream, CloudEvent(docked("Bo", 1).attributes, _more(more)))
        put(stream, docked("Ellen", 5))
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
        put(stream, CloudEvent(docked("Bo", 1).attributes, b'{"ship": "Bo"}'))
        station.hear(1)
        [(id, _)] = station.parked()
        later = lambda _: Docked(ship="Bo", berth=0)  # noqa: E731 - of a later release
        monkeypatch.setattr(station.bridge, "read", later)
        with station.runtime.engine.begin() as connection:
            station.runtime._administration.acts.parked.retry(
                joined(connection), [id], actor="ann", reason=WHY
            )
        station.work()
        assert station.noted() == [("Bo", 0)]
        assert station.parked() == []

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_ids_that_are_no_uuids_are_known_by_their_source(
        self, station: Station, stream: Any
    ) -> None:
        for source in ("north", "north", "south"):
            event = docked("Bo", 1)
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
        put(RedisStream(key, url), docked("Ellen", 1))
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
        put(stream, docked("Ellen", 1))
        assert len(stream.source("sea").poll(1)) == 1
        put(stream, docked("Ellen", 2))
        again = stream.source("sea")
        assert [e.id for _ in range(2) for e in again.poll(1)] == ["Ellen-1", "Ellen-2"]
        again.confirm()
        assert redis_client.xpending(key, "sea")["pending"] == 0


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
            runtime([], [])._administration.receiver("sea")


class TestCommand:
    def test_a_receiver_ends_when_it_is_told_to(
        self, settings: Any, tmp_path: Any, outside: Any, eventually: Any
    ) -> None:
        key, url = f"{settings.namespace}:ships", settings.redis_url.get_secret_value()
        (tmp_path / "station.py").write_text(STATION.format(key=key, url=url))
        put(RedisStream(key, url), docked("Ellen", 4))
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
        put(stream, docked("Ellen", 1))
        with saga(tmp_path, "runtime", elsewhere, *receive, DIES="yes") as dying:
            assert dying.wait(60) == -signal.SIGKILL
        assert _stored(station) == [1]
        # The next one is given the first again before it comes to the second, of the same key.
        put(stream, docked("Ellen", 2))
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
