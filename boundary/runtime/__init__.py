"""Runtime: an application's sagas and contexts, and what a host calls.

It is composed of four others (`composition`): `wiring` makes engine, broker and consumers, `host_writes`
writes in the host's transactions, `worker_loop` answers doorbells, and `administration` is for deploys
and operators.  Nothing happens at import, and nothing connects before it is used: a runtime that only
starts sagas connects to Redis when it rings its first doorbell.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary.doorbell.worker import install_worker
from boundary.orchestration.operator_actions import Acted
from boundary.runtime.composition import Composition
from boundary.runtime.host_writes import Handle
from boundary.runtime.saga_handle import SagaHandle
from boundary.settings import Settings
from internals.context import Context
from internals.database.connections import Database
from internals.work import Around, nothing_around
from saga.definition import Saga
from saga.messages import Event

D = TypeVar("D", bound=BaseModel)


class Runtime(Composition):
    """An application's sagas and contexts, on its servers.

    Make one for a process, at import if you like: nothing connects before it is used.  Safe to share
    between threads.

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

    Attributes:
        settings: What it was made with, or what the environment says.
        sagas: Stored sagas: `get` one, or `list` many.

    Example:
        ```python
        from pydantic import BaseModel

        from boundary import Runtime, SagaHandle
        from internals import Context, Work
        from saga import Command, Saga, Step

        class Order(BaseModel):
            number: str

        class Charge(Command, kind="payments.charge"):
            order: str

        payments = Context("payments")

        @payments.handles(Charge)
        def charge(command: Charge, work: Work) -> None: ...

        CHECKOUT = Saga(
            "checkout", Order, (Step("payment", lambda order: Charge(order=order.number)),)
        )
        runtime = Runtime(sagas=[CHECKOUT], contexts=[payments])

        def place(number: str) -> SagaHandle:
            with runtime.engine.begin() as connection:
                ...  # write the order down
                return runtime.start(connection, CHECKOUT, Order(number=number))
        ```
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
        super().__init__(
            sagas=sagas,
            contexts=contexts,
            settings=settings or Settings(),
            engine=engine,
            broker=broker,
            database=database,
            databases=databases or {},
            around=around,
            execution_options=execution_options or {},
            serve=self.answer,
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

        Args:
            handle: As for `start`.
            saga: The definition of all of them.
            items: What each begins with.
            keys: The business key of each, where it is not the definition's to say.

        Returns the ids in the order of the items; raises what `start` raises.
        """
        ids = self._host_writes.start_many(handle, saga, items, keys or [None] * len(items))
        return [self.sagas.handle(id) for id in ids]

    def publish(self, handle: Handle, event: Event) -> UUID:
        """Publish a domain event in the caller's transaction and return its id.

        A handler calls `work.publish`.

        Args:
            handle: As for `start`.
            event: The event; contexts that react to its kind get it after the commit.

        Raises:
            NoTransaction: The handle is not in a transaction.
            PayloadError: The event cannot be stored.
            TypeError: It is no event: a command is sent by a saga, or by a handler.
            TooDeep: In a handler: events set each other off, in a cycle.
            StillLocked: Another transaction, which does not end, publishes events of the same order.
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

        Args:
            handle: As for `start`.
            saga_id: The saga.
            event: The message; one that comes early is kept.
            id: The message's id.  The same id sent twice is one message.

        Raises:
            UnknownSaga: There is no such saga, or this application does not define it.
            ActRefused: No wait of the saga takes such a message.
            NoTransaction: The handle is not in a transaction.
            PayloadError: The message cannot be stored.
            StillLocked: Another transaction holds the saga, and does not end.
        """
        self._host_writes.signal(handle, saga_id, event, id)

    def cancel(self, handle: Handle, saga_id: UUID, *, reason: str, actor: str) -> Acted:
        """Cancel a saga in the caller's transaction: it turns back, stuck or not.

        Commands that no worker has begun are revoked; the outcomes of the others are awaited.

        Args:
            handle: As for `start`.
            saga_id: The saga.
            reason: Why; kept in the audit.
            actor: Who does it; kept in the audit.

        Returns what was done.

        Raises:
            UnknownSaga: There is no such saga, or this application does not define it.
            ActRefused: It cannot be cancelled: it is over, or past its pivot.
            NoTransaction: The handle is not in a transaction.
            PayloadError: The reason is blank or too long.
            StillLocked: Another transaction holds the saga, and does not end.
        """
        return self._host_writes.cancel(handle, saga_id, reason=reason, actor=actor)

    def worker(self) -> dramatiq.Broker:
        """Return the broker, ready for the `dramatiq` command: actors, queues and the relay.

        Hand it to Dramatiq as ``dramatiq yourapp.worker:broker`` or with `dramatiq.set_broker`.
        """
        install_worker(self._worker_loop)
        return self._wiring.broker.carrier

    def answer(self, consumer: str, *, follow: bool = False) -> int:
        """Handle what a consumer has due, in this thread.

        Workers do it when they hear a doorbell; a test does it instead of a worker.

        Args:
            consumer: The name of a context, or ``saga.`` and the name of a saga.
            follow: As workers call it.  Sagas consume the outcomes of their steps in the same
                transaction (unless the settings say otherwise), and the thread then handles
                deliveries of another consumer of this process that it sent something to, instead
                of ringing for it.

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
