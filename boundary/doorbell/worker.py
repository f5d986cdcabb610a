"""The worker: one Dramatiq actor that answers doorbells, and a relay in each process."""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import dramatiq
from dramatiq.encoder import PickleEncoder

from boundary.doorbell.hung_threads import LeavesWhenHanging
from boundary.doorbell.orphans import end_with_parent
from boundary.doorbell.redis_broker import DOORBELL
from boundary.doorbell.served import Served
from internals.database.errors import is_transient
from internals.hop.relay import Relay
from saga.errors import DefinitionError

logger = logging.getLogger(__name__)


def install_worker(runtime: Served) -> None:
    """Declare the doorbell actor and the queues of this runtime's consumers on its broker.

    Raises `DefinitionError` where Dramatiq's global encoder is the pickle encoder (all who can
    write to Redis could then run code in the workers), and for a broker that another runtime has.
    """
    if isinstance(dramatiq.get_encoder(), PickleEncoder):
        raise DefinitionError(
            "Dramatiq is set to pickle its messages, which lets anyone who can write to Redis "
            "run code here; use dramatiq.set_encoder(JSONEncoder())"
        )
    broker = runtime.broker.carrier
    served = [each for each in broker.middleware if isinstance(each, RelayThread)]
    if any(each.runtime is runtime for each in served):
        return
    if served:
        raise DefinitionError(
            "this Dramatiq broker carries the doorbells of another Runtime already; give all sagas "
            "and contexts to one Runtime, or this one a broker of its own"
        )
    for context in runtime.contexts:
        if context.database is not None and context.database not in runtime.own_databases:
            logger.warning(
                "context %s is left to other workers: its database %r is not known here",
                context.name,
                context.database,
            )
    queues = [runtime.broker.declare_doorbell(name) for name in runtime.consumers]
    if queues:

        @dramatiq.actor(broker=broker, actor_name=DOORBELL, queue_name=queues[0])
        def answer(consumer: str) -> None:
            try:
                runtime.serve(consumer, follow=True)
            except Exception as error:
                if not is_transient(error):
                    raise
                logger.warning("%s is left to the relay: %s", consumer, type(error).__name__)

    broker.add_middleware(RelayThread(runtime))


class RelayThread(dramatiq.Middleware):
    """Runs a relay for each database beside the worker threads, and answers who cannot be rung.

    Nothing is promised here: a process whose relay did not start is one relay fewer.
    """

    def __init__(self, runtime: Served) -> None:
        self.runtime = runtime
        self._stop = threading.Event()
        self._relays: Sequence[Relay] = ()
        self._threads: list[threading.Thread] = []

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:
        end_with_parent()
        self._stop.clear()
        self.runtime.watch.on_hung = LeavesWhenHanging(self.runtime, worker)
        self.runtime.answering.start(worker.worker_threads)
        self._relays = self.runtime.relays()
        home, *others = self._relays
        runs = [partial(self._run, home), *(partial(other.run, self._stop) for other in others)]
        self._threads = [
            threading.Thread(target=run, name="saga-relay", daemon=True) for run in runs
        ]
        for thread in self._threads:
            thread.start()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:
        self._stop.set()
        self.runtime.follow_no_further()
        self.runtime.answering.stop()
        for relay in self._relays:
            relay.hurry()
        for thread in self._threads:
            thread.join()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:
        self.runtime.answering.join()
        # Dramatiq ends its processes without running exit handlers.
        self.runtime.close()

    def _run(self, home: Relay) -> None:
        self._subscribe()
        home.run(self._stop)

    def _subscribe(self) -> None:
        """Record the subscriptions as soon as there is a database.

        A process that only listens to events would hear no doorbell before that.
        """
        while not self._stop.is_set():
            try:
                self.runtime.subscribe_once()
            except Exception as error:
                logger.warning("not subscribed yet: %s", type(error).__name__)
                self._stop.wait(1.0)
            else:
                return
