"""Mistakes of the relay, of doorbells and of a worker that stops."""

from internals import statements as _statements
from tests.mutants.plant import Plant

_STATEMENTS = "internals/statements.py"
_RELAY = "tests/internals/test_relay.py"
_BROKER = "tests/boundary/test_broker.py"

#: The relay's statement as it stands there.
_RING = _statements._RING

RELAY = (
    Plant(
        "relay-looks-at-settled",
        "what is settled fills the relay's portions, and what is late is never rung for",
        _STATEMENTS,
        "        WHERE state = 'pending' AND due_at <= now() AND ring_at <= now()\n",
        "        WHERE due_at <= now() AND ring_at <= now()\n",
        f"{_RELAY}::TestLook::test_what_is_settled_takes_no_place_in_a_portion",
    ),
    Plant(
        "relay-writes-over-settled",
        "the relay changes rows that are done, and rings for them until the end of days",
        _STATEMENTS,
        _RING,
        _RING.replace("state = 'pending' AND ", "").replace(" AND i.state = 'pending'", ""),
        f"{_RELAY}::TestLook::test_what_is_settled_is_never_touched[done]",
    ),
    Plant(
        "relay-moves-due-times",
        "a retry that was to wait an hour is run at once",
        _STATEMENTS,
        "SET rings = i.rings + (late",
        "SET due_at = clock_timestamp(), rings = i.rings + (late",
        f"{_RELAY}::TestLook::test_it_never_changes_state_attempts_or_due_time",
    ),
    Plant(
        "relay-without-portions",
        "after an outage one look locks a million rows",
        _STATEMENTS,
        "        ORDER BY due_at\n        LIMIT %(limit)s\n",
        "        ORDER BY due_at\n",
        f"{_RELAY}::TestLook::test_many_late_deliveries_are_one_doorbell_and_come_in_portions",
    ),
    Plant(
        "relay-breeds-doorbells",
        "a backlog makes the relay ring for all of it, again and again",
        "internals/relay.py",
        "if name in deaf or not waiting.get(name)]",
        "if name in deaf or name in waiting]",
        f"{_RELAY}::TestLook::test_who_has_a_doorbell_waiting_is_not_rung",
    ),
    Plant(
        "queue-without-bound",
        "Redis fills with doorbells while the workers are down",
        "boundary/broker.py",
        "                pipeline.ltrim(key, 0, WAITING - 1)\n",
        "                pipeline.llen(key)\n",
        f"{_BROKER}::TestRing::test_a_queue_holds_so_many_and_no_more",
    ),
    Plant(
        "relay-rings-before-commit",
        "whoever hears the relay may not see yet what it moved",
        "internals/relay.py",
        "self._move(unit, quiet) if quiet else ()\n",
        "self._move(unit, quiet) if quiet else ()\n"
        "            self._ring(frozenset(consumer for (consumer,) in rows))\n",
        f"{_RELAY}::TestLook::test_it_rings_after_its_commit",
    ),
    Plant(
        "stop-drops-doorbells",
        "what a worker had heard when it was told to stop waits for the relay",
        "boundary/hearing.py",
        "        for _ in messages:\n            self._give_back()\n",
        "        for _ in messages:\n            pass\n",
        f"{_BROKER}::TestConsume::test_what_was_heard_and_not_answered_is_rung_again",
    ),
    Plant(
        "stop-cuts-the-work",
        "a worker that is told to stop drops the work in hand",
        "boundary/worker.py",
        "    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:\n",
        "    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:\n"
        "        os._exit(1)\n",
        "tests/scenarios/test_stopped_workers.py"
        "::test_what_is_under_way_is_finished_and_the_rest_is_left",
        "import os",
    ),
    Plant(
        "nothing-without-redis",
        "while Redis is away nothing goes on",
        "internals/relay.py",
        "            deaf, waiting = frozenset(self._consumers), {}\n",
        "            deaf, waiting = frozenset(), {}\n",
        f"{_RELAY}::TestLook::test_without_redis_it_answers_what_is_due_itself",
    ),
)
