"""Runtime: the one place where engine, broker, sagas and contexts are wired together.

Nothing happens at import, and nothing connects before it is used: a runtime that only starts
sagas never opens Redis unless a doorbell is to be rung.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
from pydantic import BaseModel
from sqlalchemy import Engine

from boundary.bridges.incoming import IncomingBridge, Receiver
from boundary.bridges.outgoing import OutgoingBridge, OutgoingConsumer
from boundary.doorbell.host_broker import StockDoorbells
from boundary.doorbell.redis_broker import DoorbellBroker
from boundary.doorbell.worker import install_worker
from boundary.orchestration.operator_actions import Acted, Acts
from boundary.orchestration.orchestrator import Orchestrator
from boundary.orchestration.start import Starter, business_key
from boundary.runtime.answering import Answering
from boundary.runtime.declarations import check_event, check_messages
from boundary.runtime.own_databases import OwnDatabases
from boundary.runtime.remote_contexts import remote_contexts, remote_relays, stale_forwards
from boundary.runtime.servers import Servers
from boundary.settings import Settings
from internals.context import Context
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database, SqlAlchemyDatabase
from internals.database.engines import forget_in_forks, make_engine
from internals.database.lock_waits import bounded
from internals.database.transaction_limits import Bounds
from internals.database.unit_of_work import UnitOfWork
from internals.hop import Colocated, drain
from internals.hop.coalescing import Turn
from internals.hop.consumer import Consumer
from internals.hop.context_consumer import ContextConsumer, suspect_lease
from internals.hop.finish import Ending, finish
from internals.hop.lease_heartbeat import Heartbeat
from internals.hop.lock_contention import StandingBack
from internals.hop.relay import Relay
from internals.hop.time_limits import Watch
from internals.ids import uuid7
from internals.once import once
from internals.remote.context import RemoteContext
from internals.store.inbox import Inbox
from internals.store.ordering import LateKeys
from internals.store.outbox import Outbox
from internals.store.sql import Statements, statements
from internals.store.subscriptions import subscribe
from internals.store.unsubscribe import Retiring
from internals.work import Around, depth_here, nothing_around
from saga.definition import Saga
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import DefinitionError
from saga.messages import Cancelled, Event

D = TypeVar("D", bound=BaseModel)

#: What the caller's own writes use: a SQLAlchemy Session or Connection, unless the runtime's
#: database says otherwise.
Handle = Any


#: Business keys that an error names.
_NAMED = 3

#: Seconds for which a thread follows what it sends before it hands it over.
_FOLLOW = 2.0

#: Seconds that other threads may take to give their connections back before all are closed.
_CLOSING = 5.0


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
        DefinitionError: Two contexts, or two definitions of one saga and version, collide.
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
        self.settings = settings or Settings()
        self.sagas = _by_name(sagas)
        self.contexts = _unique(contexts)
        check_messages(self.sagas, self.contexts)
        self.servers = Servers(self.settings)
        self._given_engine = engine
        self._given_database = database
        self._given_broker = broker
        self._around = around
        self._execution_options = dict(execution_options or {})
        self._bounds = Bounds(self.settings.frozen_after)
        self.own_databases = OwnDatabases(
            databases or {}, self.settings, self._execution_options, self._open_own
        )
        self._late_keys = LateKeys()
        #: Answers in a worker's process who cannot be rung.
        self.answering = Answering(partial(self.answer, follow=True))
        self._stopping = False
        self._subscribed = False
        self._subscribing = Lock()

    def _open_own(self, name: str, engine: Engine) -> Database:
        """Return what opens transactions in a context's own database of this name."""
        return SqlAlchemyDatabase(engine, self._bounds)

    @once
    def engine(self) -> Engine:
        """The engine of the hops; also good for the host's own work."""
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
        return self._given_database or SqlAlchemyDatabase(self.engine, self._bounds)

    @once
    def broker(self) -> DoorbellBroker | StockDoorbells:
        """Where this runtime's doorbells are rung; never the global broker unless it was given."""
        if self._given_broker is not None:
            return StockDoorbells(self._given_broker, self.settings.namespace)
        return DoorbellBroker(url=self.servers.redis_url, namespace=self.settings.namespace)

    @once
    def statements(self) -> Statements:
        """The framework's SQL for the configured schema."""
        return statements(self.settings.db_schema)

    @once
    def consumers(self) -> dict[str, Consumer]:
        """Everyone in this process who has an inbox, by name."""
        found: dict[str, Consumer] = {}
        for context in self.contexts:
            if isinstance(context, OutgoingBridge):
                inbox, schema = self._inbox(context.name), self.settings.db_schema
                found[context.name] = OutgoingConsumer(
                    context, inbox, self._outbox, schema, self._heartbeat
                )
            elif context.name in self._remote:
                found[context.name] = self._remote[context.name].forwarder
            elif context.database is None:
                found[context.name] = self.context_consumer(context, finish, self.database)
        for versions in self.sagas.values():
            orchestrator = self._orchestrator(versions)
            found[orchestrator.name] = orchestrator
        return found

    @once
    def watch(self) -> Watch:
        """Ends the handlers of this process that take too long."""
        return Watch(
            limit=self.settings.handler_limit,
            batch_limit=self.settings.batch_limit,
            ring=self.ring,
        )

    def context_consumer(
        self, context: Context, ending: Ending, database: Database
    ) -> ContextConsumer:
        """Return what handles the deliveries of a context, in this database."""
        return ContextConsumer(
            context,
            database,
            self._inbox(context.name),
            self._outbox,
            self.watch,
            budget=self.settings.budget,
            suspect_starts=self.settings.suspect_starts,
            suspect_lease=suspect_lease(self.settings.frozen_after),
            yields=self.settings.yields,
            around=self._around,
            ending=ending,
            heartbeat=self._heartbeat,
        )

    @once
    def _remote(self) -> Mapping[str, RemoteContext]:
        """The contexts that have a database of their own, as far as it is known here."""
        return remote_contexts(self)

    @once
    def _turns(self) -> dict[str, Turn]:
        return {name: Turn(self.settings.budget) for name in self.consumers}

    @once
    def _standing_back(self) -> dict[str, StandingBack]:
        probes = Lock()
        return {
            name: StandingBack(probes, partial(self.ring, frozenset({name})))
            for name in self.consumers
        }

    def start(
        self,
        handle: Handle,
        saga: Saga[D],
        data: D,
        *,
        key: str | None = None,
    ) -> UUID:
        """Start a saga in the caller's transaction and return its id.

        In a handler that is `work.connection`; the trace then says which message the saga began with.

        Args:
            handle: The SQLAlchemy Session or Connection of the caller's own writes.  Nothing is
                committed here: the saga begins when the caller commits, or never.
            saga: Its definition.
            data: What it begins with.
            key: The business key, if it is not the definition's to say.  Starting the same key
                with the same data again returns the same saga.

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
    ) -> list[UUID]:
        """Start a saga for each item, all or none, in as many statements as one start takes.

        Returns the ids in the order of the items; raises what `start` raises.
        """
        unit = self._joined(handle)
        chosen = [
            business_key(saga, item, key)
            for item, key in zip(items, keys or [None] * len(items), strict=True)
        ]
        with self._bounded(unit, _keys_of(saga, chosen)):
            ids, woken = self._starter.start(unit, saga, items, chosen)
        unit.on_commit(lambda: self.ring(woken))
        return ids

    def publish(self, handle: Handle, event: Event) -> UUID:
        """Publish a domain event in the caller's transaction and return its id.

        Raises `NoTransaction`, `PayloadError`, `TooDeep` and `StillLocked` as `start` does, and
        `TypeError` for what is no event: a command is sent by a saga, or by a handler.
        """
        check_event(event)
        unit = self._joined(handle)
        id = uuid7()
        message = Envelope(
            id=id,
            kind=event.kind,
            category=Category.EVENT,
            payload=event.to_json(),
            root_id=id,
            depth=depth_here(),
        )
        self._outbox.check_depth(message.depth, event.kind)
        with self._bounded(unit, f"the ordering key of {event.kind}"):
            woken = self._outbox.send(unit, [message])
        unit.on_commit(lambda: self.ring(woken))
        return id

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
        unit = self._joined(handle)
        with self._bounded(unit, f"saga {saga_id}"):
            woken = self.acts.signal(unit, saga_id, event, id=id)
        unit.on_commit(lambda: self.ring(woken))

    def cancel(self, handle: Handle, saga_id: UUID, *, reason: str, actor: str) -> Acted:
        """Cancel a saga in the caller's transaction: it turns back, stuck or not.

        What nobody has begun is taken back, and what is being handled is awaited.  Raises
        `UnknownSaga`, `ActRefused` (after the pivot, say), `NoTransaction` and `StillLocked`.
        """
        unit = self._joined(handle)
        with self._bounded(unit, f"saga {saga_id}"):
            acted = self.acts.act(unit, saga_id, Cancelled(reason=reason), actor=actor)
        unit.on_commit(lambda: self.ring(acted.woken))
        return acted

    def _joined(self, handle: Handle) -> UnitOfWork:
        self.own_databases.refuse(handle, lambda: self.engine)
        return self.database.joined(handle)

    def _bounded(self, unit: UnitOfWork, what: str) -> AbstractContextManager[None]:
        return bounded(unit, self._bounds.wait, what)

    def worker(self) -> dramatiq.Broker:
        """Return the broker, ready for the `dramatiq` command: actors, queues and the relay.

        Hand it to Dramatiq as ``dramatiq yourapp.worker:broker`` or with `dramatiq.set_broker`.
        """
        install_worker(self)
        return self.broker.carrier

    def relay(self) -> Relay:
        """Return a relay over the consumers of this process."""
        return Relay(
            self.database,
            self.statements,
            list(self.consumers),
            waiting=self.broker.waiting,
            ring=self.broker.ring,
            deaf=self.broker.deaf,
            answer=self.answer_here,
            grace=self.settings.grace,
            late=self._late_keys,
            also=stale_forwards(self, list(self._remote)),
            quick=list(self._remote),
        )

    def relays(self) -> list[Relay]:
        """Return a relay for each database that this process knows, home's first."""
        return [self.relay(), *remote_relays(self)]

    def subscribe(self) -> None:
        """Record what the contexts of this process react to.

        A worker does it before it handles anything, so that no event of its own is published
        to nobody.  A deploy whose contexts run in separate workers does it first, with
        `saga subscribe`.
        """
        with transaction(self.database, Boundary.SUBSCRIBE) as unit:
            subscribe(unit, self.statements, self.contexts)

    def ring(self, consumers: Set[str]) -> None:
        """Ring these consumers' doorbells.

        Those of this process whose doorbells cannot ring are answered in a worker's own threads;
        without a worker they are left to the workers' relays.
        """
        unrung = self.broker.ring(consumers)
        if unrung:
            self.answering.ask(unrung & self.consumers.keys())

    def answer_here(self, consumer: str) -> None:
        """Answer a consumer without a doorbell: in a worker's own threads, or else in this one."""
        if self.answering.running:
            self.answering.ask([consumer])
        else:
            self.answer(consumer)

    def answer(self, consumer: str, *, follow: bool = False) -> int:
        """Answer a doorbell in this thread: handle what the consumer has due.

        With `follow`, as a worker does it: sagas hear of their steps in the same transactions
        (unless the settings say otherwise), and the thread goes on with a consumer of this process
        that got something last, in place of ringing for it.

        Returns the number of deliveries that the consumers rung for settled.  An unknown consumer
        has nothing here.
        """
        settled = 0
        until = time.monotonic() + _FOLLOW
        next_ = [consumer] if consumer in self.consumers else []
        if next_ and consumer not in self._remote:
            self.subscribe_once()
        while next_:
            name = next_.pop()
            turn, ring = self._turns[name], self.ring
            standing_back = self._standing_back[name]
            drained: Callable[..., int] = partial(
                drain, self.database, self.consumers[name], gave_way=standing_back.gave_way
            )
            if name in self._remote:
                drained = self._remote[name].answer
            once = partial(drained, ring, limit=self.settings.batch, hopping=turn.hopping)
            if follow:
                once = partial(once, colocated=self._colocated)
            if follow and time.monotonic() < until:
                once = partial(once, follow=partial(self._follow, next_))
            with standing_back.trying() as may:
                settled += turn.run(once, partial(ring, frozenset({name}))) if may else 0
        return settled

    def receiver(self, name: str) -> Receiver:
        """Return what reads the stream of an incoming bridge; raises `DefinitionError` for none."""
        bridges = {c.name: c for c in self.contexts if isinstance(c, IncomingBridge)}
        if name not in bridges:
            known = f"it has {', '.join(bridges)}" if bridges else "it has none at all"
            raise DefinitionError(f"there is no incoming bridge {name!r} here; {known}")
        self.subscribe_once()
        bridge = bridges[name]
        outgoing = tuple(c.name for c in self.contexts if isinstance(c, OutgoingBridge))
        return Receiver(
            bridge,
            self.database,
            self._outbox,
            self.settings.db_schema,
            self.settings.max_payload,
            self.ring,
            outgoing if bridge.answers is None else bridge.answers,
            self.settings.max_depth,
        )

    def follow_no_further(self) -> None:
        """Finish what is under way and leave the rest to others: this worker is being stopped."""
        self._stopping = True

    def _follow(self, next_: list[str], woken: frozenset[str]) -> None:
        here = None
        if not (next_ or self._stopping):
            here = next(iter(woken & self.consumers.keys()), None)
        if here is not None:
            next_.append(here)
        self.ring(woken - {here})

    @once
    def _colocated(self) -> Mapping[str, Colocated]:
        if not self.settings.colocate:
            return {}
        return {n: c for n, c in self.consumers.items() if isinstance(c, Orchestrator)}

    def migrate(self) -> None:
        """Bring the schema to the newest version, in contexts' own databases too.

        See `boundary.migration`.
        """
        from boundary.migration import migrate  # noqa: PLC0415 - Alembic is needed for this alone

        for engine in (self.engine, *self.own_databases.engines.values()):
            migrate(engine, self.settings.db_schema)

    def close(self) -> None:
        """Close connections and leave the embedded servers."""
        # Their threads may be using some.
        self._heartbeat.stop(_CLOSING)
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

    def subscribe_once(self) -> None:
        """Record the subscriptions, unless this process did so before."""
        if self._subscribed:
            return
        with self._subscribing:
            if not self._subscribed:
                self.subscribe()
                self._subscribed = True

    @once
    def _outbox(self) -> Outbox:
        return self.outbox(self.settings.max_payload)

    def outbox(self, max_payload: int) -> Outbox:
        """Return home's outbox with this limit of a payload, in bytes."""
        return Outbox(
            self.statements,
            grace=self.settings.grace,
            max_payload=max_payload,
            max_depth=self.settings.max_depth,
            late=self._late_keys,
        )

    @once
    def _heartbeat(self) -> Heartbeat:
        """One for the whole process, whatever its consumers run under leases."""
        return Heartbeat(self.statements)

    @once
    def acts(self) -> Acts:
        """What operators do; `boundary.operations` and the command line use it."""
        return Acts(self.sagas, self._outbox, self.statements, grace=self.settings.grace)

    def retiring(self, consumer: str) -> Retiring:
        """Return what ends a consumer's subscriptions; `boundary.operations` uses it."""
        return Retiring(self.settings.db_schema, consumer, self._outbox)

    @once
    def _starter(self) -> Starter:
        return Starter(self._outbox, self.statements)

    def _inbox(self, consumer: str) -> Inbox:
        return Inbox(consumer, self.settings.db_schema, self.statements)

    def _orchestrator(self, versions: dict[int, Saga[Any]]) -> Orchestrator:
        consumer = saga_consumer(next(iter(versions.values())).name)
        return Orchestrator(versions, self._inbox(consumer), self._outbox, self.statements)


def _keys_of(saga: Saga[Any], keys: Sequence[str | None]) -> str:
    """What the start of sagas locks, as an error says it."""
    found = [repr(key) for key in keys if key is not None]
    more = ", …" if len(found) > _NAMED else ""
    named = f" {', '.join(found[:_NAMED])}{more}" if found else ""
    return f"the start of {saga.name}{named}"


def _by_name(sagas: Iterable[Saga[Any]]) -> dict[str, dict[int, Saga[Any]]]:
    found: dict[str, dict[int, Saga[Any]]] = {}
    for saga in sagas:
        versions = found.setdefault(saga.name, {})
        if saga.version in versions:
            raise DefinitionError(
                f"Saga {saga.name!r}: version {saga.version} is given twice; raise the version "
                "of the changed one"
            )
        versions[saga.version] = saga
    return found


def _unique(contexts: Iterable[Context]) -> tuple[Context, ...]:
    found: dict[str, Context] = {}
    for context in contexts:
        if found.setdefault(context.name, context) is not context:
            raise DefinitionError(f"two contexts are called {context.name!r}")
    return tuple(found.values())
