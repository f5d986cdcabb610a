"""Administration: what deploys and operators do with a runtime.

Its tables are migrated, its subscriptions recorded, its consumers retired, its sagas acted on, and
its incoming streams read.
"""

from threading import Lock

from boundary.bridges.incoming import IncomingBridge
from boundary.bridges.outgoing import OutgoingBridge
from boundary.bridges.receiver import Receiver
from boundary.orchestration.operator_actions import OperatorActions
from boundary.runtime.wiring import Wiring
from internals.database.commit_points import Boundary, transaction
from internals.store.subscriptions import subscribe
from internals.store.unsubscribe import Retiring
from saga.errors import DefinitionError


class Administration:
    """Administers one runtime.  Safe to share between threads.

    Args:
        wiring: The runtime's.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        #: What operators do to sagas and deliveries.
        self.acts = OperatorActions(
            wiring.sagas, wiring.outbox, wiring.statements, grace=wiring.settings.grace
        )
        self._subscribed = False
        self._subscribing = Lock()

    def migrate(self) -> None:
        """Bring the schema to the newest version, in contexts' own databases too."""
        from boundary.migration import migrate  # noqa: PLC0415 - Alembic is needed for this alone

        wiring = self._wiring
        for engine in (wiring.engine, *wiring.own_databases.engines.values()):
            migrate(engine, wiring.settings.db_schema)

    def subscribe(self) -> None:
        """Record what the contexts of this process react to."""
        with transaction(self._wiring.database, Boundary.SUBSCRIBE) as unit:
            subscribe(unit, self._wiring.statements, self._wiring.contexts)

    def subscribe_once(self) -> None:
        """Record the subscriptions, unless this process did so before."""
        if self._subscribed:
            return
        with self._subscribing:
            if not self._subscribed:
                self.subscribe()
                self._subscribed = True

    def retiring(self, consumer: str) -> Retiring:
        """Return what ends a consumer's subscriptions."""
        return Retiring(self._wiring.settings.db_schema, consumer, self._wiring.outbox)

    def receiver(self, name: str) -> Receiver:
        """Return what reads the stream of an incoming bridge; raises `DefinitionError` for none."""
        wiring, settings = self._wiring, self._wiring.settings
        bridges = {c.name: c for c in wiring.contexts if isinstance(c, IncomingBridge)}
        if name not in bridges:
            known = f"it has {', '.join(bridges)}" if bridges else "it has none at all"
            raise DefinitionError(f"there is no incoming bridge {name!r} here; {known}")
        wiring.prepare()
        bridge = bridges[name]
        outgoing = tuple(c.name for c in wiring.contexts if isinstance(c, OutgoingBridge))
        return Receiver(
            bridge,
            wiring.database,
            wiring.outbox,
            settings.db_schema,
            settings.max_payload,
            wiring.ring,
            outgoing if bridge.answers is None else bridge.answers,
            settings.max_depth,
        )
