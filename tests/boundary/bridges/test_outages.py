"""A stream's servers are away while ships dock all the time: nothing is lost, and the order is kept.

``SAGA_OUTAGE_SECONDS`` says for how long; `make outages` has them away for a minute.
"""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from boundary.bridges import KafkaTopic, RedisStream
from tests.boundary.bridges.bridged_systems import Harbour, Kafka, Station, saga, stopped, written

#: Longer than a worker waits for the servers, so that it is in trouble.
OUTAGE = float(os.environ.get("SAGA_OUTAGE_SECONDS", "8"))

SHIPS = ("Ann", "Bo", "Cy")

#: Seconds between two ships.
OFTEN = 0.05

PROGRAM = """
from tests.boundary.bridges.bridged_systems import Docked, Left
from boundary import Runtime
from boundary.bridges import IncomingBridge, KafkaTopic, OutgoingBridge, RedisStream
from internals import Context

stream = {stream}
pilots = Context("pilots")
pilots.reacts_to(Docked, ordered_by="ship")(lambda event, work: None)
harbour = Runtime(contexts=[OutgoingBridge("out", stream, events={{Docked: "ship", Left: None}})])
station = Runtime(contexts=[pilots, IncomingBridge("sea", stream, events=[Docked])])
"""


@pytest.fixture(params=["kafka", "redis"])
def stream(request: pytest.FixtureRequest) -> Iterator[tuple[KafkaTopic | RedisStream, int]]:
    """A stream on servers of its own, and the process to stop."""
    if request.param == "redis":
        url = request.getfixturevalue("own_servers").redis_url
        with redis.Redis.from_url(url) as client:
            yield RedisStream("ships", url), client.info("server")["process_id"]
        return
    cluster = Kafka()
    soon = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}
    yield KafkaTopic("ships", cluster.servers, group="station", config=soon), cluster.process.pid
    cluster.kill()


@pytest.mark.timeout(180 + 4 * OUTAGE)
def test_nothing_is_lost_and_each_ship_is_heard_of_in_order(
    stream: tuple[KafkaTopic | RedisStream, int],
    runtime: Any,
    outside: Any,
    settings: Any,
    elsewhere: Any,
    apart: Any,
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    """The worker that sends is killed meanwhile, and a new one begins where nothing answers."""
    at, pid = stream
    (tmp_path / "ports_of_call.py").write_text(PROGRAM.format(stream=written(at)))
    harbour, station = Harbour(runtime, outside, at), Station(elsewhere, apart, at)
    berths = itertools.count()

    def sail(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            berth = next(berths)
            harbour.dock(SHIPS[berth % len(SHIPS)], berth)
            time.sleep(OFTEN)  # so often ships dock; nothing waits for it

    def heard() -> set[int]:
        rows = apart.execute("SELECT (payload ->> 'berth')::int FROM outbox")
        return {berth for (berth,) in rows}

    def sent() -> bool:
        return {state for state, *_ in harbour.deliveries()} == {"done"}

    sending = ("harbour", settings, "worker", "--processes", "1", "--threads", "2")
    receiving = ("station", elsewhere, "bridge", "receive", "sea")
    with saga(tmp_path, *receiving), saga(tmp_path, *sending) as first:
        sail(0.5)
        eventually(heard, 60, "the first ship to be heard of")
        with stopped(pid):
            sail(OUTAGE / 4)
            before = heard()
            sail(OUTAGE / 4)
            os.killpg(first.pid, signal.SIGKILL)  # its worker processes too
            with saga(tmp_path, *sending):
                sail(OUTAGE / 2)
                assert heard() == before
                assert not sent()
                os.kill(pid, signal.SIGCONT)
                sail(0.5)
                everything = set(range(next(berths)))
                eventually(lambda: heard() == everything, 120, "all ships to be heard of")
                eventually(sent, 60, "that to be known where they were sent")
    station.work()
    noted = station.noted()
    for ship in SHIPS:
        of_ship = [berth for name, berth in noted if name == ship]
        assert of_ship == sorted(of_ship)
    assert sorted(berth for _, berth in noted) == sorted(everything)
    station.close()
