"""Load: sagas that are started one by one or all at once, until each has ended as it should."""

import time
from collections.abc import Sequence
from uuid import UUID

from benchmarks.meter import Meter
from benchmarks.servers import Worker
from benchmarks.workload import ORDER, Order
from boundary import Runtime
from internals.ids import uuid7
from saga import Saga

#: Seconds between two looks at one saga, and at all of them.
_LOOK = 0.001
_LOOK_AT_ALL = 0.02

#: Seconds that one saga, and that many, may take before something is taken to be wrong.
_PATIENCE = 30.0
_PATIENCE_WITH_ALL = 300.0


class Load:
    """Starts sagas as an application does, of each kind as many, and watches them through the meter."""

    def __init__(
        self,
        runtime: Runtime,
        meter: Meter,
        worker: Worker,
        sagas: Sequence[Saga[Order]] = (ORDER,),
    ) -> None:
        self._runtime = runtime
        self._meter = meter
        self._worker = worker
        self._sagas = sagas
        self._table = f"{runtime.settings.db_schema}.saga"

    def one_by_one(self, count: int, refused: bool) -> tuple[list[UUID], list[float]]:
        """Run so many sagas, each when the last has ended; returns the orders and the seconds."""
        ended = f"SELECT 1 FROM {self._table} WHERE id = %s AND finished_at IS NOT NULL"
        seconds: list[float] = []
        ids: list[UUID] = []
        orders = _orders(count, refused)
        for number, order in enumerate(orders):
            saga = self._sagas[number % len(self._sagas)]
            began = time.perf_counter()
            with self._runtime.engine.begin() as connection:
                ids.append(self._runtime.start(connection, saga, order))
            self._worker.wait_for(
                lambda: self._meter.query(ended, ids[-1]), every=_LOOK, seconds=_PATIENCE
            )
            seconds.append(time.perf_counter() - began)
        self._check(ids, refused)
        return [order.order_id for order in orders], seconds

    def all_at_once(self, count: int, refused: bool) -> list[UUID]:
        """Start so many sagas in one transaction and wait until all have ended; returns the orders."""
        ended = f"SELECT NOT EXISTS (SELECT 1 FROM {self._table} WHERE finished_at IS NULL)"
        orders = _orders(count, refused)
        ids: list[UUID] = []
        with self._runtime.engine.begin() as connection:
            for number, saga in enumerate(self._sagas):
                part = orders[number :: len(self._sagas)]
                ids += self._runtime.start_many(connection, saga, part)
        self._worker.wait_for(
            lambda: self._meter.query(ended), every=_LOOK_AT_ALL, seconds=_PATIENCE_WITH_ALL
        )
        self._check(ids, refused)
        return [order.order_id for order in orders]

    def _check(self, ids: Sequence[UUID], refused: bool) -> None:
        """Raise RuntimeError unless each of these sagas ended as its orders say."""
        status = "compensated" if refused else "completed"
        right = f"SELECT count(*) FROM {self._table} WHERE id = ANY (%s) AND status = %s"
        if (found := self._meter.query(right, list(ids), status)) != len(ids):
            raise RuntimeError(f"{found} of {len(ids)} sagas are {status}")


def _orders(count: int, refused: bool) -> list[Order]:
    return [Order(order_id=uuid7(), refused=refused) for _ in range(count)]
