"""Redis comes back after an outage, and much is due at once: doorbells ring at a bounded rate."""

import os
import signal
from typing import Any

import pytest
import redis

from boundary.embedded import EmbeddedServers
from tests.scenarios.clinic_sagas import TRIAGE, make_runtime

pytestmark = pytest.mark.timeout(300)

#: Doorbells that may wait in one queue.
BOUND = 8


def test_what_is_due_after_an_outage_does_not_flood_the_doorbells(
    own_clinic: Any, own_servers: EmbeddedServers
) -> None:
    pid = own_servers.valkey_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    own_clinic.visit(TRIAGE, *range(300))  # nobody hears of these
    own_servers.start()

    with redis.Redis.from_url(own_servers.redis_url) as client:

        def waiting() -> dict[str, int]:
            keys = [key.decode() for key in client.scan_iter("*:doorbell:*")]
            return {key.rpartition(":")[2]: client.llen(key) for key in keys}

        # Many relays look at once, and ring once among them.
        relays = [make_runtime(own_clinic.settings) for _ in range(5)]
        own_clinic.wait_until(
            lambda: relays[0]._worker_loop.relay().look(), "the visits to be late"
        )
        assert waiting() == {"ward": 1}
        own_clinic.query("UPDATE inbox SET ring_at = now()")  # late again, and not heard yet
        assert [runtime._worker_loop.relay().look() for runtime in relays] == [0] * 5
        assert waiting() == {"ward": 1}
        # After a failure nobody tries for some seconds; then each of these rings, and nobody hears it.
        ring = own_clinic.runtime._wiring.broker.ring
        own_clinic.wait_until(lambda: not ring(frozenset({"ward"})), "doorbells to be tried again")
        for patient in range(300, 350):
            own_clinic.visit(TRIAGE, patient)
        assert waiting() == {"ward": BOUND}
        for runtime in relays:
            runtime.close()

        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, *waiting().values(), 0)
            return bool(own_clinic.over() == 350)

        own_clinic.start_worker()
        own_clinic.wait_until(over, "all visits")
    assert most <= BOUND
    own_clinic.wait_until_over()
    assert own_clinic.statuses() == {"completed": 350}
    assert own_clinic.query(
        "SELECT what, count(*), count(DISTINCT patient) FROM chart GROUP BY 1"
    ) == [("admitted", 350, 350)]
    own_clinic.check_history()
