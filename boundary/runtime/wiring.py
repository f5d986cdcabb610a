"""Wiring: engine, broker, databases and consumers of one runtime, made of its settings.

What connects, starts an embedded server, or is made of what does, is made when it is first used,
under a lock: to declare a runtime, as a host does at import, must not need a database.  That is
the engine, what opens transactions on it, the broker, and the consumers, which hold the database.
Everything else is made at once.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

import dramatiq
from sqlalchemy import Engine

from boundary.bridges.outgoing import OutgoingBridge, OutgoingConsumer
from boundary.doorbell.host_broker import StockDoorbells
from boundary.doorbell.redis_broker import DoorbellBroker
from boundary.orchestration.orchestrator import Orchestrator
from boundary.runtime.own_databases import OwnDatabases
from boundary.runtime.remote_contexts import remote_contexts
from boundary.runtime.servers import Servers
from boundary.settings import Settings
from internals.context import Context
from internals.database.connections import Database, SqlAlchemyDatabase
from internals.database.engines import forget_in_forks, make_engine
from internals.database.transaction_limits import Bounds
from internals.hop.batch_writer import BatchWriter
from internals.hop.consumer import Consumer
from internals.hop.context_consumer import ContextConsumer, suspect_lease
from internals.hop.lease_heartbeat import Heartbeat
from internals.hop.time_limits import Watch
from internals.once import once
from internals.remote.context import RemoteContext
from internals.store.inbox import Inbox
from internals.store.ordering import LateKeys
from internals.store.outbox import Outbox
from internals.store.sql import statements
from internals.work import Around, StartsSagas, Work
from saga.definition import Saga
from saga.envelope import saga_consumer

#: Seconds that other threads may take to give their connections back before all are closed.
_CLOSING = 5.0


class Wiring:
    """What one runtime consists of.  Safe to share between threads and to carry into forks.

    Args:
        settings: The runtime's.
        sagas: The definitions, by name and version.
        contexts: The contexts, whose names differ.
        engine, broker, database: As the host gives them to the runtime, if it does.
        databases: Those of contexts that have one of their own.
        around: Entered around each run of a handler.
        execution_options: For engines that are made.
        open_own: Makes of a name and its engine what opens transactions in a context's own database.
        ring: Rings the doorbells of these consumers.
        prepare: Called before a context's own database is used.
        start: Starts sagas in the transaction of a handler.

    Raises `DefinitionError` for a schema's name that cannot be one, and for a context's URL that is
    none of Postgres.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        sagas: Mapping[str, dict[int, Saga[Any]]],
        contexts: tuple[Context, ...],
        engine: Engine | None,
        broker: dramatiq.Broker | None,
        database: Database | None,
        databases: Mapping[str, Engine | str],
        around: Around,
        execution_options: Mapping[str, Any],
        open_own: Callable[[str, Engine], Database],
        ring: Callable[[Set[str]], None],
        prepare: Callable[[], None],
        start: StartsSagas,
    ) -> None:
        self.settings = settings
        self.sagas = sagas
        self.contexts = contexts
        self.servers = Servers(settings)
        self.bounds = Bounds(settings.frozen_after)
        self._given_engine = engine
        self._given_broker = broker
        self._given_database = database
        self._around = around
        self._execution_options = dict(execution_options)
        self.own_databases = OwnDatabases(databases, settings, execution_options, open_own)
        self.ring = ring
        self.prepare = prepare
        self._start = start
        self.statements = statements(settings.db_schema)
        self.late_keys = LateKeys()
        self.outbox = self.outbox_of(settings.max_payload)
        #: One for the whole process, whatever its consumers run under leases.
        self.heartbeat = Heartbeat(self.statements)
        #: Ends the handlers of this process that take too long.
        self.watch = Watch(
            limit=settings.handler_limit, batch_limit=settings.batch_limit, ring=ring
        )

    @once
    def engine(self) -> Engine:
        """The host's engine, or one that is made; the embedded server starts for it."""
        engine = self._given_engine or make_engine(
            self.servers.database_url,
            pool_size=self.settings.pool_size,
            prepared_statements=self.settings.prepared_statements,
            execution_options=self._execution_options,
        )
        forget_in_forks(engine)
        return engine

    @once
    def database(self) -> Database:
        """Where the hops' transactions are opened and the host's are joined."""
        return self._given_database or SqlAlchemyDatabase(self.engine, self.bounds)

    @once
    def broker(self) -> DoorbellBroker | StockDoorbells:
        """Where doorbells are rung; the embedded server starts for it.

        It is never Dramatiq's global broker unless that was given.
        """
        if self._given_broker is not None:
            return StockDoorbells(self._given_broker, self.settings.namespace)
        return DoorbellBroker(url=self.servers.redis_url, namespace=self.settings.namespace)

    @once
    def remote(self) -> Mapping[str, RemoteContext]:
        """The contexts that have a database of their own, as far as it is known here."""
        return remote_contexts(self)

    @once
    def consumers(self) -> dict[str, Consumer]:
        """Each consumer of this process, by name."""
        found: dict[str, Consumer] = {}
        for context in self.contexts:
            if isinstance(context, OutgoingBridge):
                found[context.name] = OutgoingConsumer(
                    context, self._writer(context.name), self.settings.db_schema, self.heartbeat
                )
            elif context.name in self.remote:
                found[context.name] = self.remote[context.name].forwarder
            elif context.database is None:
                found[context.name] = self.context_consumer(
                    context, self._writer(context.name), self.database
                )
        for versions in self.sagas.values():
            orchestrator = self._orchestrator(versions)
            found[orchestrator.name] = orchestrator
        return found

    def context_consumer(
        self, context: Context, writer: BatchWriter, database: Database
    ) -> ContextConsumer:
        """Return what handles the deliveries of a context, in this database."""
        return ContextConsumer(
            context,
            database,
            writer,
            self.watch,
            budget=self.settings.budget,
            suspect_starts=self.settings.suspect_starts,
            suspect_lease=suspect_lease(self.settings.frozen_after),
            yields=self.settings.yields,
            around=self._around if context.database is not None else self._around_at_home,
            heartbeat=self.heartbeat,
        )

    def outbox_of(self, max_payload: int) -> Outbox:
        """Return home's outbox with this limit of a payload, in bytes."""
        return Outbox(
            self.statements,
            grace=self.settings.grace,
            max_payload=max_payload,
            max_depth=self.settings.max_depth,
            late=self.late_keys,
        )

    def close(self) -> None:
        """Close the connections that were made, and leave the embedded servers."""
        # Their threads may be using some.
        self.heartbeat.stop(_CLOSING)
        self.watch.rest(_CLOSING)
        for consumer in self.__dict__.get("consumers", {}).values():
            if isinstance(consumer, OutgoingConsumer):
                consumer.close()
        if "broker" in self.__dict__:
            self.broker.close()
        if "engine" in self.__dict__ and self._given_engine is None:
            self.engine.dispose()
        self.own_databases.close()
        self.servers.stop()

    @contextmanager
    def _around_at_home(self, work: Work) -> Iterator[None]:
        """What is entered around a handler whose transaction is in the sagas' database."""
        work.starts_sagas = self._start
        with self._around(work):
            yield

    def inbox(self, consumer: str) -> Inbox:
        """Return the deliveries of a consumer."""
        return Inbox(consumer, self.settings.db_schema, self.statements)

    def _writer(self, consumer: str) -> BatchWriter:
        return BatchWriter(self.inbox(consumer), self.outbox)

    def _orchestrator(self, versions: dict[int, Saga[Any]]) -> Orchestrator:
        consumer = saga_consumer(next(iter(versions.values())).name)
        return Orchestrator(versions, self._writer(consumer), self.statements)
