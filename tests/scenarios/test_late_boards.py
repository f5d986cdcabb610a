"""A board is put up while trains leave and workers die: it shows all of them, once and in order."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from boundary import Runtime, Settings
from boundary.operations.backfill import backfill
from tests.scenarios import station
from tests.scenarios.running_application import House
from tests.scenarios.station import Left

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)

TRAINS = tuple(f"IC {number}" for number in range(1, 7))
STOPS = 60


class Station(House):
    """The station of `station`."""

    application = station
    worker = "station_worker"

    def leave(self, train: str, stops: range) -> None:
        """A train goes its way, one transaction a stop."""
        for stop in stops:
            with self.runtime.engine.begin() as connection:
                self.runtime.publish(connection, Left(train=train, stop=stop))

    def shown(self) -> dict[str, list[int]]:
        """The stops that the board has shown, in its order."""
        return self._by_train(self.query("SELECT train, stop FROM shown ORDER BY id"))

    def told(self) -> dict[str, list[int]]:
        """The stops that are on the stream, in its order; the second copy of one is left out."""
        source = station.stream_of(self.settings).source("others")
        events = {event.id: Left.from_json(event.data) for event in source.poll(100_000)}
        source.close()
        return self._by_train([(event.train, event.stop) for event in events.values()])

    def _by_train(self, rows: list[tuple[Any, ...]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {train: [] for train in TRAINS}
        for train, stop in rows:
            found[train].append(stop)
        return found


@pytest.fixture
def ours(
    empty_settings: Settings,
    redis_client: Any,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
) -> Iterator[Station]:
    opened = Station(empty_settings, start_group, eventually)
    opened.runtime.subscribe()  # what goes out does so from the first train on
    yield opened
    opened.close()
    redis_client.delete(station.stream_of(empty_settings).stream)


def test_nothing_is_left_out_or_shown_twice(ours: Station) -> None:
    with ThreadPoolExecutor(len(TRAINS) + 1) as pool:
        worker = ours.start_worker()
        _all(pool.submit(ours.leave, t, range(STOPS // 2)) for t in TRAINS)
        ours.wait_until(lambda: ours.count("inbox", "state = 'done'") > 20, "some to go out")
        worker.kill()
        trains = [pool.submit(ours.leave, t, range(STOPS // 2, STOPS)) for t in TRAINS]
        handing = pool.submit(_hand_over, station.make_runtime(ours.settings))
        for more in range(40, 240, 40):
            worker = ours.start_worker(STATION_BOARD="yes", SAGA_BATCH="8")
            ours.wait_until(lambda more=more: ours.count("shown") >= more, f"{more} to be shown")  # type: ignore[misc]
            worker.kill()
        _all([handing, *trains])
    ours.start_worker(STATION_BOARD="yes")
    ours.wait_until_over()
    everything = {train: list(range(STOPS)) for train in TRAINS}
    assert ours.shown() == everything
    assert ours.told() == everything


def _hand_over(runtime: Runtime) -> None:
    """What `saga backfill board --since 1d` does."""
    try:
        for _ in backfill(
            runtime, "board", timedelta(days=1), rate=1e6, actor="ann", reason="a new board"
        ):
            pass
    finally:
        runtime.close()


def _all(futures: Any) -> None:
    done: list[Future[None]] = list(futures)
    for future in done:
        future.result(120)
