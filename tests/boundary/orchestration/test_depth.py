"""Messages that cause each other in a circle come to an end, and a long saga is no circle."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import Engine

from boundary import Runtime, Settings
from boundary.bridges import IncomingBridge, OutgoingBridge, RedisStream
from boundary.bridges.cloud_event import CloudEvent
from internals import Context, Work
from internals.database.unit_of_work import joined
from saga import Command, Event, Saga, Step
from tests.conftest import make_engine

LIMIT = 20
WHY = "the circle is cut"


class Ping(Event, kind="ping.pinged"):
    n: int


class Pong(Event, kind="pong.ponged"):
    n: int


class Spin(Command, kind="wheel.spin"):
    n: int


@pytest.fixture
def few(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_depth": LIMIT})


@pytest.fixture
def open_(few: Settings, request: pytest.FixtureRequest) -> Callable[..., Runtime]:
    def make(sagas: list[Saga[Any]], contexts: list[Context], at: Settings = few) -> Runtime:
        engine: Engine = make_engine(at)
        made = Runtime(sagas=sagas, contexts=contexts, settings=at, engine=engine)
        request.addfinalizer(engine.dispose)
        request.addfinalizer(made.close)
        made.subscribe()
        return made

    return make


def work(runtime: Runtime) -> None:
    while sum(runtime.answer(name) for name in runtime._wiring.consumers):
        pass


def parked(outside: Any) -> list[tuple[UUID, str]]:
    return list(outside.execute("SELECT message_id, last_error FROM inbox WHERE state = 'parked'"))


def publish(runtime: Runtime, event: Event) -> None:
    with runtime.engine.begin() as connection:
        runtime.publish(connection, event)


def circle(
    *, by_hand: Callable[[Work, Event], None] | None = None, **declared: Any
) -> list[Context]:
    """Two contexts that answer each other for ever."""
    ping, pong = Context("ping"), Context("pong")
    tell = by_hand or (lambda work, event: work.publish(event))

    @ping.reacts_to(Pong, emits=(Ping,), **declared)
    def answer(event: Pong, work: Work) -> None:
        tell(work, Ping(n=event.n + 1))

    @pong.reacts_to(Ping, emits=(Pong,), **declared)
    def answer_back(event: Ping, work: Work) -> None:
        tell(work, Pong(n=event.n + 1))

    return [ping, pong]


@pytest.mark.parametrize("external", [False, True])
def test_a_circle_of_events_ends_with_a_parked_delivery_that_says_why(
    open_: Any, outside: Any, external: bool
) -> None:
    runtime = open_([], circle(external=external))
    publish(runtime, Ping(n=0))
    work(runtime)
    [(_, error)] = parked(outside)
    assert "TooDeep" in error
    assert f"the limit is {LIMIT}" in error
    assert outside.execute("SELECT count(*), max(depth) FROM outbox").fetchone() == (
        LIMIT + 1,
        LIMIT,
    )
    assert outside.execute("SELECT attempts FROM inbox WHERE state = 'parked'").fetchone() == (1,)


def test_so_does_one_whose_handlers_publish_as_a_host_does(open_: Any, outside: Any) -> None:
    made: list[Runtime] = []

    def tell(work: Work, event: Event) -> None:
        made[0].publish(work.connection, event)

    made.append(open_([], circle(by_hand=tell)))
    publish(made[0], Ping(n=0))
    work(made[0])
    [(_, error)] = parked(outside)
    assert "TooDeep" in error


def test_to_retry_it_does_not_make_it_deeper(open_: Any, outside: Any) -> None:
    runtime = open_([], circle())
    publish(runtime, Ping(n=0))
    for _ in range(3):
        work(runtime)
        [(id, _)] = parked(outside)
        with runtime.engine.begin() as connection:
            runtime._administration.acts.parked.retry(
                joined(connection), [id], actor="ann", reason=WHY
            )
    work(runtime)
    assert outside.execute("SELECT count(*), max(depth) FROM outbox").fetchone() == (
        LIMIT + 1,
        LIMIT,
    )
    wider = open_([], circle(), runtime.settings.model_copy(update={"max_depth": LIMIT + 5}))
    [(id, _)] = parked(outside)
    with wider.engine.begin() as connection:
        wider._administration.acts.parked.retry(joined(connection), [id], actor="ann", reason=WHY)
    work(wider)
    assert outside.execute("SELECT max(depth) FROM outbox").fetchone() == (LIMIT + 5,)


@pytest.mark.parametrize("way", ["its transaction", "one of its own"])
def test_sagas_that_start_each_other_come_to_an_end(open_: Any, outside: Any, way: str) -> None:
    wheel = Context("wheel")
    made: list[Any] = []

    @wheel.handles(Spin, external=way == "one of its own")
    def spin(command: Spin, work: Work) -> None:
        if way == "its transaction":
            made[0].start(work.connection, turning, Spin(n=command.n + 1))
        else:
            with made[0].engine.begin() as connection:
                made[0].start(connection, turning, Spin(n=command.n + 1))

    turning: Saga[Spin] = Saga("turning", Spin, steps=(Step("spin", lambda spin: spin),))
    made.append(open_([turning], [wheel]))
    with made[0].engine.begin() as connection:
        made[0].start(connection, turning, Spin(n=0))
    work(made[0])
    [(_, error)] = parked(outside)
    assert "TooDeep: the start of turning would be message 21" in error
    assert outside.execute("SELECT count(*) FROM saga").fetchone() == (LIMIT + 1,)


def test_a_saga_of_many_steps_is_no_circle(open_: Any, outside: Any) -> None:
    wheel = Context("wheel")
    wheel.handles(Spin)(lambda _, __: None)
    steps: tuple[Step[Spin, Any], ...] = tuple(
        Step[Spin, Any](f"spin_{n}", lambda spin: spin) for n in range(3 * LIMIT)
    )
    long: Saga[Spin] = Saga("long", Spin, steps=steps)
    runtime = open_([long], [wheel])
    with runtime.engine.begin() as connection:
        runtime.start(connection, long, Spin(n=0))
    work(runtime)
    assert outside.execute("SELECT status FROM saga").fetchall() == [("completed",)]
    assert parked(outside) == []


def test_a_saga_stays_as_deep_as_its_start_and_its_history_agrees(open_: Any, outside: Any) -> None:
    from boundary.operations.consistency import differences

    wheel, starting = Context("wheel"), Context("starting")
    wheel.handles(Spin)(lambda _, __: None)
    made: list[Runtime] = []

    @starting.reacts_to(Ping)
    def start(event: Ping, work: Work) -> None:
        made[0].start(work.connection, turning, Spin(n=event.n))

    turning: Saga[Spin] = Saga(
        "turning", Spin, steps=tuple(Step(name, lambda spin: spin) for name in ("a", "b"))
    )
    made.append(open_([turning], [wheel, starting]))
    publish(made[0], Ping(n=0))
    work(made[0])
    rows = outside.execute("SELECT depth FROM outbox WHERE kind = 'wheel.spin'").fetchall()
    assert rows == [(1,), (1,)]
    with made[0].engine.begin() as connection:
        found = differences(joined(connection), made[0]._wiring.statements, made[0]._wiring.sagas)
        assert list(found) == []


class TestBridges:
    """Two systems answer each other by two streams."""

    @pytest.fixture
    def streams(self, few: Settings) -> Any:
        assert few.redis_url is not None
        url = few.redis_url.get_secret_value()
        names = [f"{few.namespace}:{name}" for name in ("there", "back")]
        yield [RedisStream(name, url) for name in names]
        with redis.Redis.from_url(url) as client:
            client.delete(*names)

    def test_a_circle_over_bridges_comes_to_an_end(
        self, open_: Any, few: Settings, elsewhere: Settings, outside: Any, apart: Any, streams: Any
    ) -> None:
        there, back = streams
        far = elsewhere.model_copy(update={"max_depth": LIMIT})
        ping, pong = circle()
        here = open_(
            [],
            [
                ping,
                OutgoingBridge("out", there, events={Ping: None}),
                IncomingBridge("in", back, events=[Pong]),
            ],
        )
        other = open_(
            [],
            [
                pong,
                OutgoingBridge("out", back, events={Pong: None}),
                IncomingBridge("in", there, events=[Ping]),
            ],
            far,
        )
        publish(here, Ping(n=0))
        sources = [(here, back.source("in")), (other, there.source("in"))]
        while not (parked(outside) or parked(apart)):
            for runtime, source in sources:
                work(runtime)
                runtime._administration.receiver("in").receive(source)
        for _, source in sources:
            source.close()
        [(_, error)] = [*parked(outside), *parked(apart)]
        assert "SAGA_MAX_DEPTH" in error
        depths = [
            books.execute("SELECT max(depth) FROM outbox").fetchone()[0]
            for books in (outside, apart)
        ]
        assert max(depths) == LIMIT

    @pytest.mark.parametrize(
        ("told", "kept"), [("0", 4), ("-7", 4), ("x", 4), ("3", 4), ("9", 10), ("9" * 5000, None)]
    )
    def test_what_an_event_says_of_its_depth_makes_it_no_shallower(
        self, open_: Any, outside: Any, streams: Any, told: str, kept: int | None
    ) -> None:
        """The message that it says it was caused by lies at three."""
        _, back = streams
        runtime = open_([], [IncomingBridge("in", back, events=[Pong])])
        publish(runtime, Ping(n=0))
        [(cause,)] = outside.execute("UPDATE outbox SET depth = 3 RETURNING id").fetchall()
        event = CloudEvent(
            {
                "specversion": "1.0",
                "id": "1",
                "source": "elsewhere",
                "type": Pong.kind,
                "causationid": str(cause),
                "depth": told,
            },
            b'{"n": 1}',
        )
        sink, source = back.sink(), back.source("in")
        assert sink.send([event]) == {}
        runtime._administration.receiver("in").receive(source)
        sink.close()
        source.close()
        rows = outside.execute("SELECT depth FROM outbox WHERE kind = %s", [Pong.kind]).fetchall()
        assert rows == ([] if kept is None else [(kept,)])
        assert len(parked(outside)) == (kept is None)
