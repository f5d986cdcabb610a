"""Runtime: an application's sagas and contexts, and what a host calls.

It is composed of four others: `wiring` makes engine, broker and consumers, `host_writes` writes in
the host's transactions, `worker_loop` answers doorbells, and `administration` is for deploys and
operators.  Nothing happens at import, and nothing connects before it is used: a runtime that only
starts sagas connects to Redis when it rings its first doorbell.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary.doorbell.worker import install_worker
from boundary.orchestration.operator_actions import Acted
from boundary.runtime.administration import Administration
from boundary.runtime.declarations import check_messages, sagas_by_name, unique_contexts
from boundary.runtime.host_writes import Handle, HostWrites
from boundary.runtime.saga_handle import SagaHandle, Sagas
from boundary.runtime.wiring import Wiring
from boundary.runtime.worker_loop import WorkerLoop
from boundary.settings import Settings
from internals.context import Context
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database, SqlAlchemyDatabase, reading
from internals.database.unit_of_work import SqlAlchemyUnitOfWork, UnitOfWork
from internals.work import Around, nothing_around
from saga.definition import Saga
from saga.messages import Event

D = TypeVar("D", bound=BaseModel)


class Runtime:
    """An application's sagas and contexts, on its servers.

    Args:
        sagas: The definitions that this process knows; several versions of one are welcome.
        contexts: The bounded contexts whose handlers this process runs.
        settings: Read from the environment if not given.
        engine: The host's own SQLAlchemy engine (Postgres through psycopg); made from the
            settings if not given.
        broker: A Dramatiq broker of the host's that is to carry the doorbells (RabbitMQ, say), and
            whose workers run this runtime; one over Redis of its own if not given.
        database: Opens the hops' transactions, in a host whose connections are not SQLAlchemy's.
        databases: The databases of contexts that have one of their own: engines or URLs, by the
            name that the context gives.  A context whose database is not among them is left to
            other processes.
        around: Entered around each run of a handler, such as an application context of the host.
        execution_options: For the engine that is made, such as a `schema_translate_map` for the
            contexts' tables.

    Raises:
        DefinitionError: Two contexts, or two definitions of one saga and version, collide, or the
            settings name a schema or a URL that cannot be one.
    """

    def __init__(
        self,
        *,
        sagas: Iterable[Saga[Any]] = (),
        contexts: Iterable[Context] = (),
        settings: Settings | None = None,
        engine: Engine | None = None,
        broker: dramatiq.Broker | None = None,
        database: Database | None = None,
        databases: Mapping[str, Engine | str] | None = None,
        around: Around = nothing_around,
        execution_options: Mapping[str, Any] | None = None,
    ) -> None:
        #: What it was made with, or what the environment says.
        self.settings = settings or Settings()
        definitions = sagas_by_name(sagas)
        chosen = unique_contexts(contexts)
        check_messages(definitions, chosen)
        self._wiring = Wiring(
            settings=self.settings,
            sagas=definitions,
            contexts=chosen,
            engine=engine,
            broker=broker,
            database=database,
            databases=databases or {},
            around=around,
            execution_options=execution_options or {},
            open_own=self._open_own,
            ring=self._ring,
            prepare=self._prepare,
            start=self._start_in,
        )
        self._administration = Administration(self._wiring)
        self._host_writes = HostWrites(self._wiring, self._administration.acts)
        self._worker_loop = WorkerLoop(self._wiring, self._administration, self.answer)
        #: Stored sagas: `get` one, or `list` many.
        self.sagas = Sagas(
            definitions,
            self.settings.db_schema,
            self._host_writes,
            reading=self._reading,
            acting=self._acting,
        )

    @property
    def engine(self) -> Engine:
        """The engine of the hops; also good for the host's own work."""
        return self._wiring.engine

    @property
    def own_engines(self) -> Mapping[str, Engine]:
        """The engines of the databases that contexts have for their own, by name."""
        return self._wiring.own_databases.engines

    def start(
        self,
        handle: Handle,
        saga: Saga[D],
        data: D,
        *,
        key: str | None = None,
    ) -> SagaHandle:
        """Start a saga in the caller's transaction and return its id, as a handle.

        A handler calls `work.start`, which needs no runtime.

        Args:
            handle: The SQLAlchemy Session or Connection of the caller's own writes.  Nothing is
                committed here: the saga begins when the caller commits, or never.
            saga: Its definition.
            data: What it begins with.
            key: The business key, if it is not the definition's to say.  Starting the same key
                with the same data again returns the same saga.

        Returns the saga's id, which can also be asked and waited for once the caller has committed.

        Raises:
            KeyConflict: The key was started before, with other data.
            NoTransaction: The handle is not in a transaction.
            PayloadError: The data or the first command cannot be stored.
            TooDeep: In a handler: sagas start each other, in a cycle.
            StillLocked: Another transaction, which does not end, is starting the same key; this
                one stays usable.
        """
        return self.start_many(handle, saga, [data], keys=[key])[0]

    def start_many(
        self,
        handle: Handle,
        saga: Saga[D],
        items: Sequence[D],
        *,
        keys: Sequence[str | None] | None = None,
    ) -> list[SagaHandle]:
        """Start a saga for each item, all or none, in as many statements as one start takes.

        Returns the ids in the order of the items; raises what `start` raises.
        """
        ids = self._host_writes.start_many(handle, saga, items, keys or [None] * len(items))
        return [self.sagas.handle(id) for id in ids]

    def publish(self, handle: Handle, event: Event) -> UUID:
        """Publish a domain event in the caller's transaction and return its id.

        Raises `NoTransaction`, `PayloadError`, `TooDeep` and `StillLocked` as `start` does, and
        `TypeError` for what is no event: a command is sent by a saga, or by a handler.
        """
        return self._host_writes.publish(handle, event)

    def signal(
        self,
        handle: Handle,
        saga_id: UUID,
        event: Event,
        *,
        id: UUID | None = None,
    ) -> None:
        """Send a saga an outside message that one of its waits takes, in the caller's transaction.

        One that comes early is kept.  The same `id` sent twice is one message.  Raises
        `UnknownSaga`, `ActRefused`, `NoTransaction` and `StillLocked`.
        """
        self._host_writes.signal(handle, saga_id, event, id)

    def cancel(self, handle: Handle, saga_id: UUID, *, reason: str, actor: str) -> Acted:
        """Cancel a saga in the caller's transaction: it turns back, stuck or not.

        Commands that no worker has begun are revoked; the outcomes of the others are awaited.
        Raises `UnknownSaga`, `ActRefused` (after the pivot, say), `NoTransaction` and `StillLocked`.
        """
        return self._host_writes.cancel(handle, saga_id, reason=reason, actor=actor)

    def worker(self) -> dramatiq.Broker:
        """Return the broker, ready for the `dramatiq` command: actors, queues and the relay.

        Hand it to Dramatiq as ``dramatiq yourapp.worker:broker`` or with `dramatiq.set_broker`.
        """
        install_worker(self._worker_loop)
        return self._wiring.broker.carrier

    def answer(self, consumer: str, *, follow: bool = False) -> int:
        """Answer a doorbell in this thread: handle what the consumer has due.

        With `follow`, as workers call it, sagas consume the outcomes of their steps in the same
        transaction (unless the settings say otherwise), and the thread then handles deliveries of
        another consumer of this process that it sent something to, instead of ringing for it.

        Returns how many deliveries were settled; 0 for an unknown consumer.
        """
        return self._worker_loop.answer(consumer, follow=follow)

    def migrate(self) -> None:
        """Bring the schema to the newest version, in contexts' own databases too.

        See `boundary.migration`.
        """
        self._administration.migrate()

    def subscribe(self) -> None:
        """Record what the contexts of this process react to.

        A worker does it before it handles anything, so that no event of its own is published
        to nobody.  A deploy whose contexts run in separate workers does it first, with
        `saga subscribe`.
        """
        self._administration.subscribe()

    def close(self) -> None:
        """Close connections and leave the embedded servers."""
        self._wiring.close()

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
        with reading(self.engine) as connection:
            yield SqlAlchemyUnitOfWork(connection)

    @contextmanager
    def _acting(self) -> Iterator[UnitOfWork]:
        """A transaction for what a host does by itself, committed at its end."""
        with transaction(self._wiring.database, Boundary.ACT) as unit:
            yield unit

    def _open_own(self, name: str, engine: Engine) -> Database:
        """Return what opens transactions in a context's own database of this name."""
        return SqlAlchemyDatabase(engine, self._wiring.bounds)


def wiring_of(runtime: Runtime) -> Wiring:
    """Return what a runtime consists of: for the rooms above, and not for users."""
    return runtime._wiring


def administration_of(runtime: Runtime) -> Administration:
    """Return what deploys and operators do with a runtime: likewise."""
    return runtime._administration
