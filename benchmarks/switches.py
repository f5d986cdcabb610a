"""Switches: each trick of the hop, and how a benchmark does without it.

A trick is switched off by a patch of the process that enters it, so that the product needs no setting for
what nobody should set.  What is right without a trick stays right: only time may be lost.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

from dramatiq.brokers.redis import RedisBroker

from benchmarks import workload
from boundary.doorbell import redis_broker
from boundary.doorbell.host_broker import StockDoorbells
from boundary.orchestration.orchestrator import Orchestrator
from boundary.runtime import wiring, worker_loop
from boundary.runtime.worker_loop import WorkerLoop
from internals.database.unit_of_work import Row, SqlAlchemyUnitOfWork, UnitOfWork
from internals.hop.coalescing import Coalescing
from internals.store.delivery import Settlement
from internals.store.inbox import Inbox
from internals.work import Work

Switch = Callable[[], AbstractContextManager[object]]

#: Rows that the handlers of a context update, in the order in which sagas come.
HOT = 16

_SET = SqlAlchemyUnitOfWork.handling
_KEPT = Inbox.__init__


def setting(name: str, value: str) -> Switch:
    return lambda: patch.dict(os.environ, {name: value})


def together(*switches: Switch) -> Switch:
    @contextmanager
    def off() -> Iterator[None]:
        with ExitStack() as stack:
            for switch in switches:
                stack.enter_context(switch())
            yield

    return off


def no_chaining() -> AbstractContextManager[object]:
    return patch.object(worker_loop, "_FOLLOW", -1.0)


def always_careful() -> AbstractContextManager[object]:
    def handling(self: SqlAlchemyUnitOfWork, **_: bool) -> Any:
        return _SET(self, careful=True)

    return patch.object(SqlAlchemyUnitOfWork, "handling", handling)


def plain_savepoints() -> AbstractContextManager[object]:
    """Release each handler's savepoint before the next one's is made."""

    def set_savepoint(self: SqlAlchemyUnitOfWork) -> None:
        if self._kept:
            self._control(b"RELEASE SAVEPOINT saga_handler")
            self._kept = False
        self.run("SAVEPOINT saga_handler", {})
        self._kept = True

    return patch.object(SqlAlchemyUnitOfWork, "_set_savepoint", set_savepoint)


def forgotten_statements() -> AbstractContextManager[object]:
    """Let psycopg see savepoints, and forget what it has prepared when one is rolled back."""

    def control(self: SqlAlchemyUnitOfWork, statements: bytes) -> Sequence[Row]:
        cursor = self._driver.execute(statements)
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else ()

    return patch.object(SqlAlchemyUnitOfWork, "_control", control)


def through_sqlalchemy() -> AbstractContextManager[object]:
    """Run the framework's statements as a user of SQLAlchemy would."""

    def run(
        self: SqlAlchemyUnitOfWork, statement: str, parameters: Mapping[str, object]
    ) -> Sequence[Row]:
        if not self._handling:
            if self._kept:
                self._control(b"RELEASE SAVEPOINT saga_handler")
                self._kept = False
            if self._settings is not None:
                self._settings.put_back()
        result = self.connection.exec_driver_sql(statement, dict(parameters))
        return [tuple(row) for row in result] if result.returns_rows else ()

    return patch.object(SqlAlchemyUnitOfWork, "run", run)


def any_batch() -> AbstractContextManager[object]:
    """Let two batches of one context run at once."""

    def init(self: Inbox, *arguments: Any) -> None:
        _KEPT(self, *arguments)
        found = self.statements.claim.replace("pg_try_advisory_xact_lock(%(lock)s)", "true")
        assert found != self.statements.claim
        self.statements = replace(self.statements, claim=found)

    return patch.object(Inbox, "__init__", init)


@contextmanager
def each_thread_answers() -> Iterator[None]:
    def run(_: Coalescing, once: Callable[[], int], __: Callable[[], None]) -> int:
        return once()

    with patch.object(Coalescing, "run", run), patch.object(Coalescing, "hopping", lambda _: None):
        yield


class _NeverAsked(dict[str, Orchestrator]):
    """Sagas that hear of what is sent, and of nothing else, in the transaction that sends it."""

    def keys(self) -> Any:
        return {}.keys()


def no_second_look() -> AbstractContextManager[object]:
    def colocated(self: WorkerLoop) -> Mapping[str, Orchestrator]:
        consumers = self._wiring.consumers.items()
        return _NeverAsked((n, c) for n, c in consumers if isinstance(c, Orchestrator))

    return patch.object(WorkerLoop, "colocated", property(colocated))


def one_after_another() -> AbstractContextManager[object]:
    """Settle, save and send in a statement each."""

    def finish(
        self: Inbox,
        unit: UnitOfWork,
        settlements: Sequence[Settlement],
        messages: Mapping[str, object],
        sagas: Mapping[str, object] | None,
    ) -> Sequence[Row]:
        self.settle(unit, settlements)
        if sagas is not None:
            unit.run(self.statements.save_sagas, sagas)
        sent = {UUID(record["id"]) for record in json.loads(str(messages["messages"]))}
        rows = unit.run(self.statements.send, messages) if sent else ()
        # `send` returns the ids that are new, and a finish those that are not.
        known = sent - {id for *_, id in rows}
        return [*(row for row in rows if row[-1] is None), *((None, None, id) for id in known)]

    return patch.object(Inbox, "finish", finish)


def stock_broker() -> AbstractContextManager[object]:
    def broker(url: str, namespace: str) -> StockDoorbells:
        return StockDoorbells(RedisBroker(url=url, namespace=namespace), namespace)  # type: ignore[no-untyped-call]

    return patch.object(wiring, "DoorbellBroker", broker)


def hot_rows() -> AbstractContextManager[object]:
    """Have each handler update one of a few rows of its context's."""
    insert = workload.insert

    def update(work: Work, order_id: Any, what: str) -> None:
        work.execute(
            "INSERT INTO counter VALUES (%(what)s, %(number)s, 1) "
            "ON CONFLICT (what, number) DO UPDATE SET total = counter.total + 1",
            {"what": what, "number": order_id.int % HOT},
        )
        insert(work, order_id, what)

    return patch.object(workload, "insert", update)


def many_doorbells() -> AbstractContextManager[object]:
    return patch.object(redis_broker, "WAITING", 1_000_000)
