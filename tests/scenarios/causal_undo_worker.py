"""What `dramatiq tests.scenarios.causal_undo_worker:broker` runs: the contexts that a test names; each doorbell twice."""

import os
from collections.abc import Iterable

from boundary import Settings
from tests.scenarios.causal_undo_app import CONTEXTS, make_runtime

#: Names of contexts; what is sent to the others waits.
served = os.environ["CARNIVAL_SERVES"].split()

runtime = make_runtime(Settings(), tuple(c for c in CONTEXTS if c.name in served))
ring = runtime._wiring.broker.ring


def ring_twice(consumers: Iterable[str]) -> frozenset[str]:
    """Ring without regard for what waits, which is what a repeated message in Redis does."""
    named = list(consumers)
    unrung = ring(named)
    for name in named:
        runtime._wiring.broker.client.rpush(f"{runtime.settings.namespace}:doorbell:{name}", b"")  # type: ignore[union-attr]
    return unrung


runtime._wiring.broker.ring = ring_twice  # type: ignore[method-assign]
broker = runtime.worker()
