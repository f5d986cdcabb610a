"""An event that the database refuses is set aside, with the reason, and all others go on."""

import random
import string
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg.errors import DiskFull

from boundary import Runtime
from boundary.bridges.cloud_event import CloudEvent
from boundary.bridges.stream import StreamTrouble
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import joined
from internals.hop import hop
from saga.backoff import Backoff
from tests.boundary.bridges.bridged_systems import Docked, Harbour, Station

WHY = "looked into it"


def put(stream: Any, *events: CloudEvent) -> None:
    """Put something on a stream as another system does."""
    sink = stream.sink()
    assert sink.send(events) == {}
    sink.close()


def docked(ship: str, berth: int, **more: str) -> CloudEvent:
    attributes = {
        "specversion": "1.0",
        "id": f"{ship[:20]}-{berth}",
        "source": "elsewhere",
        "type": "harbour.docked",
        "partitionkey": "all",
        **more,
    }
    return CloudEvent(attributes, Docked(ship=ship, berth=berth).to_json().encode())


def noise(length: int) -> str:
    """A text that does not get shorter when it is compressed."""
    return "".join(random.Random(7).choices(string.ascii_letters, k=length))


def deep(levels: int) -> CloudEvent:
    data = b'{"ship": "Deep", "berth": ' + b"[" * levels + b"]" * levels + b"}"
    return CloudEvent({**docked("Deep", 1).attributes}, data)


#: What Postgres, or the reader, cannot take; each with a word of the reason.
POISON = {
    "long key": (docked(noise(9000), 1), "ordering key is too long"),
    "NUL": (CloudEvent(docked("N", 1).attributes, b'{"ship": "\\u0000", "berth": 1}'), ""),
    "too deep": (deep(100_000), ""),
    "long id": (docked("L", 1, id="x" * 2000), "more than 1,000 characters"),
    "long source": (docked("L", 2, source="x" * 20_000), "more than 1,000 characters"),
}


def heard(station: Station, count: int) -> None:
    """Take so many entries of the stream as a receiver that runs does, and have them handled."""
    station.hear(count)


class TestSetAside:
    @pytest.mark.parametrize("what", POISON)
    def test_it_is_parked_with_the_reason_and_the_others_are_handled_in_order(
        self, station: Station, stream: Any, what: str
    ) -> None:
        poison, says = POISON[what]
        with suppress(StreamTrouble):
            put(stream, docked("Ann", 1), poison, docked("Ann", 2), docked("Ann", 3))
        heard(station, 4)
        assert station.noted() == [("Ann", 1), ("Ann", 2), ("Ann", 3)]
        [(_, error)] = station.parked()
        assert says in error

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_read_again_after_a_restart_it_is_set_aside_once(
        self, station: Station, stream: Any
    ) -> None:
        put(stream, docked("Ann", 1), docked(noise(9000), 1), docked("Ann", 2))
        events = station.source.poll(10)
        for _ in range(2):  # its confirmation was lost
            station.receiver._take(events)
        station.work()
        assert station.noted() == [("Ann", 1), ("Ann", 2)]
        assert len(station.parked()) == 1

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_was_dropped_by_hand_is_not_parked_anew_when_it_comes_again(
        self, station: Station, stream: Any
    ) -> None:
        put(stream, docked(noise(9000), 1))
        events = station.source.poll(10)
        station.receiver._take(events)
        [(id, _)] = station.parked()
        with station.runtime.engine.begin() as connection:
            station.runtime._administration.acts.parked.drop(
                joined(connection), [id], actor="ann", reason=WHY
            )
        station.receiver._take(events)
        assert station.parked() == []

    def test_a_receiver_goes_on_that_was_restarted(
        self, station: Station, stream: Any, eventually: Any
    ) -> None:
        put(stream, docked("Ann", 1), docked(noise(9000), 1), docked("Ann", 2))
        for berth in (2, 3):
            stop = threading.Event()
            reading = threading.Thread(target=station.receiver.run, args=[stop])
            reading.start()
            try:
                eventually(lambda n=berth: _stored(station, n), 60, "the last one to come")
                assert reading.is_alive()
            finally:
                stop.set()
                reading.join()
            put(stream, docked(noise(9000), 7), docked("Ann", 3))
        station.work()
        assert station.noted() == [("Ann", 1), ("Ann", 2), ("Ann", 3)]


def _stored(station: Station, berth: int) -> bool:
    return bool(
        station.outside.execute(
            "SELECT 1 FROM outbox WHERE kind = 'harbour.docked' AND (payload ->> 'berth')::int = %s",
            [berth],
        ).fetchall()
    )


@pytest.mark.parametrize("stream", ["redis"], indirect=True)
class TestReceiver:
    def _run(self, station: Station, done: Callable[[], object]) -> bool:
        """Have it run until something holds; returns whether it was alive still."""
        stop = threading.Event()
        reading = threading.Thread(target=station.receiver.run, args=[stop])
        reading.start()
        try:
            deadline = time.monotonic() + 60
            while not done():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return reading.is_alive()
        finally:
            stop.set()
            reading.join()

    def test_an_error_that_nobody_knows_does_not_end_it(
        self, station: Station, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(stream, docked("Ann", 1))
        # For the batch, for the event alone, and for setting it aside.
        errors = iter(
            [ZeroDivisionError("a bug"), TypeError("a bug"), psycopg.ProgrammingError("no table")]
        )

        def fail(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.HOP, "before"):
                for error in errors:
                    raise error

        watch(fail)
        try:
            assert self._run(station, lambda: _stored(station, 1))
        finally:
            watch(None)

    def test_where_the_database_never_has_room_for_one_event_the_others_go_on(
        self, station: Station, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried for a while: what has no room now may have some later."""
        monkeypatch.setattr("boundary.bridges.receiver._BACKOFF", Backoff(0.01, 15.0, 0.5))
        put(stream, docked("Ann", 1), docked("Big", 2), docked("Ann", 3))
        send = station.runtime._wiring.outbox.send
        tried: list[int] = []

        def full(unit: Any, messages: Any, *rest: Any) -> Any:
            if any("Big" in m.payload and m.kind == "harbour.docked" for m in messages):
                tried.append(len(messages))
                raise DiskFull("no room for it")
            return send(unit, messages, *rest)

        monkeypatch.setattr(station.runtime._wiring.outbox, "send", full)
        assert self._run(station, lambda: _stored(station, 3))
        [(_, error)] = station.parked()
        assert "no room for it" in error
        assert len(tried) > 5


class TestRetried:
    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_what_was_set_aside_is_taken_when_it_is_retried_and_nothing_is_wrong_any_more(
        self, station: Station, stream: Any
    ) -> None:
        put(stream, docked(noise(9000), 1))
        station.hear(1)
        [(id, _)] = station.parked()
        station.outside.execute("UPDATE subscription SET ordered_by = NULL")
        with station.runtime.engine.begin() as connection:
            station.runtime._administration.acts.parked.retry(
                joined(connection), [id], actor="ann", reason=WHY
            )
        station.work()
        assert [berth for _, berth in station.noted()] == [1]
        assert station.parked() == []


class TestOutgoing:
    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_no_transaction_is_open_while_the_stream_is_waited_for(
        self, harbour: Harbour, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[int, int]] = []
        consumer: Any = harbour.runtime._wiring.consumers["out"]
        send = consumer._sink.send

        def watched(events: Any) -> Any:
            [(open_,)] = harbour.outside.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' "
                "AND pid <> pg_backend_pid() AND application_name = %s",
                [name],
            ).fetchall()
            leased = harbour.outside.execute("SELECT 1 FROM inbox WHERE lease IS NOT NULL")
            seen.append((open_, len(leased.fetchall())))
            return send(events)

        with harbour.runtime.engine.connect() as connection:
            name = connection.exec_driver_sql("SHOW application_name").scalar_one()
        monkeypatch.setattr(consumer._sink, "send", watched)
        harbour.dock("Ellen", 1)
        harbour.dock("Bo", 1)
        harbour.send()
        assert seen[0][1] == 2
        assert [state for state, *_ in harbour.deliveries()] == ["done", "done"]

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_of_one_key_the_next_is_not_sent_while_the_first_is_on_its_way(
        self, harbour: Harbour, runtime: Any, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consumer: Any = harbour.runtime._wiring.consumers["out"]
        send, sent = consumer._sink.send, []

        def slow(events: Any) -> Any:
            sent.append([event.data for event in events])
            if len(sent) == 1:
                assert other.answer("out") == 0
            return send(events)

        other: Runtime = runtime([], [harbour.bridge])
        monkeypatch.setattr(consumer._sink, "send", slow)
        harbour.dock("Ellen", 1, 2)
        harbour.send()
        assert [len(each) for each in sent] == [1, 1]
        assert [state for state, *_ in harbour.deliveries()] == ["done", "done"]

    @pytest.mark.parametrize("stream", ["redis"], indirect=True)
    def test_whoever_confirms_it_first_settles_it_though_its_lease_is_over(
        self, harbour: Harbour, runtime: Any, stream: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another worker has it, and has trouble with the stream."""
        consumer: Any = harbour.runtime._wiring.consumers["out"]
        send, states = consumer._sink.send, []
        other: Runtime = runtime([], [harbour.bridge])
        sending: Any = other._wiring.consumers["out"]

        def troubled(events: Any) -> Any:
            [(state, *_)] = harbour.deliveries()
            states.append(state)
            return {0: StreamTrouble("it hangs")}

        def frozen(events: Any) -> Any:
            harbour.outside.execute("UPDATE inbox SET due_at = now()")
            leased.append(hop(other._wiring.database, sending).after_commit)
            return send(events)

        leased: list[Any] = []
        monkeypatch.setattr(consumer._sink, "send", frozen)
        monkeypatch.setattr(sending._sink, "send", troubled)
        harbour.dock("Ellen", 1)
        harbour.send()
        assert harbour.deliveries() == [("done", 0, None)]
        leased[0](other._wiring.database)
        assert states == ["done"]
        assert harbour.deliveries() == [("done", 0, None)]
