"""Composition: the parts of a runtime, and how each reaches the others.

A host framework with connections of its own opens the transactions another way: it overrides what
is private here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary.doorbell.served import Serve
from boundary.runtime.administration import Administration
from boundary.runtime.declarations import check_messages, sagas_by_name, unique_contexts
from boundary.runtime.host_writes import HostWrites
from boundary.runtime.saga_handle import Sagas
from boundary.runtime.wiring import Wiring
from boundary.runtime.worker_loop import WorkerLoop
from boundary.settings import Settings
from internals.context import Context
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database, SqlAlchemyDatabase, reading
from internals.database.unit_of_work import SqlAlchemyUnitOfWork, UnitOfWork
from internals.work import Around
from saga.definition import Saga

D = TypeVar("D", bound=BaseModel)


class Composition:
    """Wiring, administration, host writes and worker loop of one runtime.

    Args:
        serve: `Runtime.answer`.
        sagas, and the others: As `Runtime` takes them.
    """

    def __init__(
        self,
        *,
        sagas: Iterable[Saga[Any]],
        contexts: Iterable[Context],
        settings: Settings,
        engine: Engine | None,
        broker: dramatiq.Broker | None,
        database: Database | None,
        databases: Mapping[str, Engine | str],
        around: Around,
        execution_options: Mapping[str, Any],
        serve: Serve,
    ) -> None:
        self.settings = settings
        definitions = sagas_by_name(sagas)
        chosen = unique_contexts(contexts)
        check_messages(definitions, chosen)
        self._wiring = Wiring(
            settings=settings,
            sagas=definitions,
            contexts=chosen,
            engine=engine,
            broker=broker,
            database=database,
            databases=databases,
            around=around,
            execution_options=execution_options,
            open_own=self._open_own,
            ring=self._ring,
            prepare=self._prepare,
            start=self._start_in,
        )
        self._administration = Administration(self._wiring)
        self._host_writes = HostWrites(self._wiring, self._administration.acts)
        self._worker_loop = WorkerLoop(self._wiring, self._administration, serve)
        self.sagas = Sagas(
            definitions,
            settings.db_schema,
            self._host_writes,
            reading=self._reading,
            acting=self._acting,
        )

    def _ring(self, consumers: Set[str]) -> None:
        self._worker_loop.ring(consumers)

    def _start_in(
        self, unit: UnitOfWork, saga: Saga[D], items: Sequence[D], keys: Sequence[str | None]
    ) -> list[UUID]:
        return self._host_writes.start_in(unit, saga, items, keys)

    def _prepare(self) -> None:
        self._administration.subscribe_once()

    @contextmanager
    def _reading(self) -> Iterator[UnitOfWork]:
        """A transaction that only reads, and whose statements see one moment."""
        with reading(self._wiring.engine) as connection:
            yield SqlAlchemyUnitOfWork(connection)

    @contextmanager
    def _acting(self) -> Iterator[UnitOfWork]:
        """A transaction for what a host does by itself, committed at its end."""
        with transaction(self._wiring.database, Boundary.ACT) as unit:
            yield unit

    def _open_own(self, name: str, engine: Engine) -> Database:
        """Return what opens transactions in a context's own database of this name."""
        return SqlAlchemyDatabase(engine, self._wiring.bounds)


def wiring_of(runtime: Composition) -> Wiring:
    """Return what a runtime consists of: for the rooms above, and not for users."""
    return runtime._wiring


def administration_of(runtime: Composition) -> Administration:
    """Return what deploys and operators do with a runtime: likewise."""
    return runtime._administration
