"""A stream's servers are away while ships dock all the time: nothing is lost, and the order is kept.

``SAGA_OUTAGE_SECONDS`` says for how long; `make outages` has them away for a minute.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from ports import Harbour, Kafka, Station, written

from boundary.bridges import KafkaTopic, RedisStream
from tests.conftest import worker_environment

OUTAGE = float(os.environ.get("SAGA_OUTAGE_SECONDS", "3"))

SHIPS = ("Ann", "Bo", "Cy")

#: Seconds between two ships.
OFTEN = 0.05

PROGRAM = """
from ports import Docked, Left
from boundary import Runtime
from boundary.bridges import IncomingBridge, KafkaTopic, OutgoingBridge, RedisStream
from internals import Context

stream = {stream}
pilots = Context("pilots")
pilots.reacts_to(Docked, ordered_by="ship")(lambda event, work: None)
harbour = Runtime(contexts=[OutgoingBridge("out", stream, events={{Docked: "ship", Left: None}})])
station = Runtime(contexts=[pilots, IncomingBridge("sea", stream, events=[Docked])])
"""

Away = Callable[[], Any]


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

    sending = ("harbour", settings, "worker", "--processes", "1", "--threads", "2")
    receiving = ("station", elsewhere, "bridge", "receive", "sea")
    with _saga(tmp_path, *receiving), _saga(tmp_path, *sending) as first:
        sail(0.5)
        eventually(heard, 60, "the first ship to be heard of")
        os.kill(pid, signal.SIGSTOP)
        try:
            sail(OUTAGE / 2)
            os.killpg(first.pid, signal.SIGKILL)  # its worker processes too
            with _saga(tmp_path, *sending):
                sail(OUTAGE / 2)
                os.kill(pid, signal.SIGCONT)
                sail(0.5)
                everything = set(range(next(berths)))
                eventually(lambda: heard() == everything, 120, "all ships to be heard of")
        finally:
            os.kill(pid, signal.SIGCONT)
    assert {state for state, *_ in harbour.deliveries()} == {"done"}
    station.work()
    noted = station.noted()
    for ship in SHIPS:
        of_ship = [berth for name, berth in noted if name == ship]
        assert of_ship == sorted(of_ship)
    assert sorted(berth for _, berth in noted) == sorted(everything)
    station.close()


@contextmanager
def _saga(
    folder: Path, app: str, settings: Any, *command: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a command of the command line run, on the program in this folder."""
    environment = os.environ | worker_environment(settings)
    environment["PYTHONPATH"] += f"{os.pathsep}{Path(__file__).parent}{os.pathsep}{folder}"
    saga = Path(sys.executable).with_name("saga")
    with subprocess.Popen(
        [saga, "--app", f"ports_of_call:{app}", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
