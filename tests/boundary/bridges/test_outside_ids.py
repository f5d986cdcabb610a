"""Ids from outside are of a space of their own: none of them is ever taken for one of ours."""

import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
import redis
from rich.console import Console

from boundary import Runtime, Settings
from boundary.bridges import IncomingBridge, OutgoingBridge, RedisStream
from boundary.bridges.cloud_event import CloudEvent
from boundary.operations.export import export
from boundary.queries.parked import show_message
from boundary.rendering.trace_tree import render_trace
from internals import Context, Work
from internals.database.unit_of_work import joined
from internals.store.trace import trace_message
from tests.boundary.bridges.bridged_systems import Docked, Left, Station
from tests.boundary.bridges.foreign_ids import WHY, Port, docked, put
from tests.conftest import make_engine


@pytest.fixture
def stream(settings: Settings) -> Iterator[RedisStream]:
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    key = f"{settings.namespace}:ships"
    yield RedisStream(key, url)
    with redis.Redis.from_url(url) as client:
        client.delete(key, f"{key}:out")


@pytest.fixture
def port(settings: Settings, outside: Any, stream: RedisStream) -> Iterator[Port]:
    made = Port(settings, outside, stream)
    yield made
    made.close()


@pytest.fixture
def joining(settings: Settings, outside: Any, stream: RedisStream) -> Iterator[Port]:
    made = Port(settings, outside, stream, joins_sagas=True)
    yield made
    made.close()


class TestComputed:
    """An outsider knows a saga's id, and so the id of all that the saga will ever send."""

    @pytest.mark.parametrize("what", ["fee:commanded:1", "ashore:commanded:1", "fee:timeout:1"])
    def test_a_saga_sends_what_it_would_though_somebody_has_named_an_event_so(
        self, port: Port, what: str
    ) -> None:
        id = port.start()
        port.hear(docked(str(uuid5(id, what))))
        port.work()
        sent = port.rows("SELECT kind FROM outbox WHERE saga_id = %s AND category = 'command'", id)
        assert [kind for (kind,) in sent].count("fees.pay") == 1
        assert port.rows("SELECT kind FROM outbox WHERE id = %s", uuid5(id, what)) != [
            ("harbour.docked",)
        ]
        assert [kind for (kind,) in sent][-1] == "berths.call"  # the last step's

    def test_the_event_is_there_under_an_id_of_the_bridges_own_space(self, port: Port) -> None:
        given = uuid4()
        port.hear(docked(str(given)), docked(str(given), source="south"), docked(str(given)))
        rows = port.rows("SELECT id, origin, repeats FROM outbox ORDER BY seq")
        assert [json.loads(origin) for _, origin, _ in rows] == [
            {"bridge": "sea", "source": "elsewhere", "id": str(given)},
            {"bridge": "sea", "source": "south", "id": str(given)},
        ]
        assert [repeats for *_, repeats in rows] == [1, 0]
        assert given not in {id for id, *_ in rows}

    def test_two_bridges_do_not_share_one(
        self, port: Port, settings: Settings, stream: RedisStream
    ) -> None:
        other = RedisStream(f"{stream.stream}:out", stream.url)
        lake = IncomingBridge("lake", other, events=[Docked])
        both = Runtime(contexts=[port.sea, lake], settings=settings, engine=make_engine(settings))
        event = docked("7")
        for name, at in (("sea", stream), ("lake", other)):
            put(at, event)
            source = at.source(name)
            both._administration.receiver(name).receive(source)
            source.close()
        both.close()
        both.engine.dispose()
        assert port.rows("SELECT count(*) FROM outbox") == [(2,)]

    def test_what_separates_source_and_id_is_in_neither(self, port: Port) -> None:
        port.hear(docked("b\nc", source="a"), docked("c", source="a\nb"))
        assert port.rows("SELECT count(*) FROM outbox") == [(2,)]

    def test_an_unread_one_does_not_hide_another_at_the_same_place(
        self, port: Port, settings: Settings
    ) -> None:
        """A stream that was deleted and made anew counts from the beginning."""
        for ship in ("Ann", "Bo"):
            with redis.Redis.from_url(port.stream.url) as client:
                client.delete(port.stream.stream)
                fields = {f"ce_{n}": v for n, v in docked(ship).attributes.items()}
                client.xadd(port.stream.stream, {**fields, "data": b"{"}, id="5-5")
            port.source.close()
            port.receiver.receive(port.source)
        assert port.rows("SELECT count(*) FROM outbox WHERE kind = 'sea.unread'") == [(2,)]


class TestAgain:
    def test_another_event_under_the_same_id_is_set_aside_and_not_dropped(self, port: Port) -> None:
        """The same source and id with another type: one of them is not what it says."""
        port.hear(docked("7"))
        port.sea.events[Left.kind] = Left
        other = docked("7", type=Left.kind)
        port.hear(CloudEvent(other.attributes, b'{"ship": "Bo"}'), docked("8"))
        [(error,)] = port.rows("SELECT last_error FROM inbox WHERE state = 'parked'")
        assert "IdConflict" in error
        assert "belongs to another message, harbour.docked sent by sea" in error
        assert port.rows("SELECT count(*) FROM outbox WHERE kind = 'harbour.docked'") == [(2,)]

    def test_one_that_is_read_later_has_the_id_that_it_would_have_had(self, port: Port) -> None:
        put(port.stream, CloudEvent(docked("7").attributes, b'{"ship": "Bo"}'))
        port.receiver.receive(port.source)
        port.work()
        [(id,)] = port.rows("SELECT message_id FROM inbox WHERE state = 'parked'")
        port.sea.read = lambda _: Docked(ship="Bo", berth=0)  # type: ignore[method-assign, assignment]
        with port.runtime.engine.begin() as connection:
            port.runtime._administration.acts.parked.retry(
                joined(connection), [id], actor="ann", reason=WHY
            )
        port.work()
        port.hear(docked("7"))
        assert port.rows("SELECT repeats FROM outbox WHERE kind = 'harbour.docked'") == [(1,)]


class TestBackAgain:
    """An event goes out, and comes in again."""

    def test_our_own_that_we_read_is_no_new_one(
        self, settings: Settings, outside: Any, stream: RedisStream
    ) -> None:
        """Several systems write to the stream, and this one both writes and reads."""
        out = OutgoingBridge("out", stream, events={Docked: "ship"})
        sea = IncomingBridge("sea", stream, events=[Docked])
        port = Runtime(contexts=[out, sea], settings=settings, engine=make_engine(settings))
        port.subscribe()
        with port.engine.begin() as connection:
            id = port.publish(connection, Docked(ship="Ellen", berth=4))
        port.answer("out")
        source = stream.source("sea")
        while not port._administration.receiver("sea").receive(source):
            pass
        source.close()
        port.close()
        port.engine.dispose()
        assert list(outside.execute("SELECT id, repeats FROM outbox")) == [(id, 1)]

    def test_one_that_says_something_else_under_our_id_is_set_aside(self, port: Port) -> None:
        with port.runtime.engine.begin() as connection:
            id = port.runtime.publish(connection, Docked(ship="Bo", berth=1))
        port.hear(docked(str(id), source="host"))
        [(error,)] = port.rows("SELECT last_error FROM inbox WHERE state = 'parked'")
        assert "says something else" in error

    def test_by_way_of_another_system_it_is_known_again_and_its_answer_finds_its_cause(
        self, port: Port, elsewhere: Settings, apart: Any, stream: RedisStream
    ) -> None:
        """That system passes on what it takes in, and publishes what answers it."""
        answering = Context("pilots")

        @answering.reacts_to(Left, emits=(Docked,))
        def answer(event: Left, work: Work) -> None:
            work.publish(Docked(ship=event.ship, berth=4))

        back = OutgoingBridge("back", stream, events={Left: None, Docked: None})
        heard = IncomingBridge("heard", port.calls, events=[Left])
        other = Runtime(
            contexts=[answering, back, heard], settings=elsewhere, engine=make_engine(elsewhere)
        )
        other.subscribe()
        port.sea.events[Left.kind] = Left
        port.sea.joins_sagas = True
        receiver = port.runtime._administration.receiver("sea")
        id = port.start()
        for name in ("saga.visit", "berths", "out"):
            port.runtime.answer(name)
        [(called,)] = port.rows("SELECT id FROM outbox WHERE kind = 'harbour.left'")
        source = port.calls.source("heard")
        while not other._administration.receiver("heard").receive(source):
            pass
        source.close()
        while other.answer("pilots") + other.answer("back"):
            pass
        other.close()
        other.engine.dispose()
        heard_back = 0
        while heard_back < 2:
            heard_back += receiver.receive(port.source)
        left = port.rows("SELECT id, repeats FROM outbox WHERE kind = 'harbour.left'")
        assert (called, 1) in left
        assert len(left) == 1
        [answered] = port.rows(
            "SELECT causation_id, saga_id FROM outbox WHERE kind = 'harbour.docked'"
        )
        assert answered == (called, id)


class TestAnswers:
    def _called(self, port: Port) -> tuple[UUID, UUID]:
        """A saga whose call is published, and did not go out yet."""
        id = port.start()
        for name in ("saga.visit", "berths"):
            port.runtime.answer(name)
        [(called,)] = port.rows("SELECT id FROM outbox WHERE kind = 'harbour.left'")
        return id, called

    @pytest.mark.parametrize("of", ["start", "berth:commanded:1", "fee:commanded:1"])
    def test_what_never_went_out_was_answered_by_nobody(self, joining: Port, of: str) -> None:
        id = joining.start()
        joining.work()
        joining.hear(docked("7", causationid=str(uuid5(id, of))))
        [(error,)] = joining.rows("SELECT last_error FROM inbox WHERE state = 'parked'")
        assert "never went out by out" in error
        assert joining.rows("SELECT 1 FROM outbox WHERE kind = 'harbour.docked'") == []
        assert joining.status(id)[0] == "running"

    def test_what_is_on_its_way_may_be_answered_before_that_is_known_here(
        self, joining: Port
    ) -> None:
        id, called = self._called(joining)
        joining.hear(docked("6", causationid=str(called)))
        assert joining.rows("SELECT 1 FROM outbox WHERE kind = 'harbour.docked'") == []
        joining.outside.execute(
            "UPDATE inbox SET started_at = now(), lease = %s WHERE consumer = 'out'", [uuid4()]
        )
        joining.hear(docked("7", causationid=str(called)))
        assert joining.rows("SELECT saga_id FROM outbox WHERE kind = 'harbour.docked'") == [(id,)]

    def test_a_bridge_answers_those_bridges_that_it_names(
        self, settings: Settings, outside: Any, stream: RedisStream
    ) -> None:
        port = Port(settings, outside, stream, joins_sagas=["customs"])
        _, called = self._called(port)
        port.work()
        port.hear(docked("7", causationid=str(called)))
        [(error,)] = port.rows("SELECT last_error FROM inbox WHERE state = 'parked'")
        assert "never went out by customs" in error
        port.close()

    def test_sources_that_may_not_answer_do_not(
        self, settings: Settings, outside: Any, stream: RedisStream
    ) -> None:
        port = Port(settings, outside, stream, joins_sagas=True, answered_by=["pilots"])
        id, called = self._called(port)
        port.work()
        port.hear(docked("7", causationid=str(called)))
        [(error,)] = port.rows("SELECT last_error FROM inbox WHERE state = 'parked'")
        assert "'elsewhere' is none of those that may answer: pilots" in error
        port.hear(docked("7", source="pilots", causationid=str(called)))
        assert port.rows("SELECT saga_id FROM outbox WHERE kind = 'harbour.docked'") == [(id,)]
        port.close()


def test_a_cause_that_nobody_here_knows_is_of_another_system(
    elsewhere: Settings, apart: Any, stream: RedisStream
) -> None:
    station = Station(elsewhere, apart, stream, joins_sagas=["out"])
    put(stream, docked("7", causationid=str(uuid4())))
    station.hear(1)
    assert station.noted() == [("Ellen", 4)]
    station.close()


def test_trace_and_export_say_where_it_came_from(port: Port) -> None:
    port.hear(docked("7", source="south"))
    [(id, unread)] = port.rows("SELECT id, origin FROM outbox")
    origin = {"bridge": "sea", "source": "south", "id": "7"}
    assert json.loads(unread) == origin
    schema = port.runtime.settings.db_schema
    with port.runtime.engine.begin() as connection:
        unit = joined(connection)
        told = trace_message(unit, schema, id)
        assert told.roots[0].origin == origin
        drawn = Console(width=200, file=(page := io.StringIO()))
        drawn.print(render_trace(told))
        assert "came in by sea as 7 of south" in page.getvalue()
        detail = show_message(unit, schema, id)
        assert detail is not None
        assert detail.origin == origin
        [line] = [json.loads(each) for each in export(connection, schema) if '"message"' in each]
        assert line["origin"] == origin
