"""Mistakes of the relay, of doorbells and of a worker that stops."""

from tests.mutants.plant import Plant

_RELAY = "tests/internals/hop/test_relay.py"
_BROKER = "tests/boundary/doorbell/test_redis_broker.py"

RELAY = (
    Plant(
        "relay-looks-at-settled",
        "what is settled fills the relay's portions, and what is late is never rung for",
        "internals:RING",
        "WHERE state = 'pending' AND due_at <= now() AND ring_at <= now()",
        "WHERE due_at <= now() AND ring_at <= now()",
        f"{_RELAY}::TestLook::test_what_is_settled_takes_no_place_in_a_portion",
    ),
    Plant(
        "relay-writes-over-settled",
        "the relay changes rows that are done, and rings for them until the end of days",
        "internals:RING",
        '""".replace("{first_of_its_key}"',
        '""".replace("state = \'pending\' AND ", "")'
        '.replace(" AND i.state = \'pending\'", "").replace("{first_of_its_key}"',
        f"{_RELAY}::TestLook::test_what_is_settled_is_never_touched[done]",
    ),
    Plant(
        "relay-moves-due-times",
        "a retry that was to wait an hour is run at once",
        "internals:RING",
        "SET rings = i.rings + (late",
        "SET due_at = clock_timestamp(), rings = i.rings + (late",
        f"{_RELAY}::TestLook::test_it_never_changes_state_attempts_or_due_time",
    ),
    Plant(
        "relay-without-portions",
        "after an outage one look locks a million rows",
        "internals:RING",
        "        LIMIT %(limit)s\n",
        "",
        f"{_RELAY}::TestLook::test_many_late_deliveries_are_one_doorbell_and_come_in_portions",
    ),
    Plant(
        "relay-breeds-doorbells",
        "a backlog makes the relay ring for all of it, again and again",
        "internals:Relay.look",
        "if name in deaf or not waiting.get(name)]",
        "if name in deaf or name in waiting]",
        f"{_RELAY}::TestLook::test_who_has_a_doorbell_waiting_is_not_rung",
    ),
    Plant(
        "queue-without-bound",
        "Redis fills with doorbells while the workers are down",
        "boundary:DoorbellBroker._push",
        "pipeline.ltrim(key, 0, WAITING - 1)",
        "pipeline.llen(key)",
        f"{_BROKER}::TestRing::test_a_queue_holds_so_many_and_no_more",
    ),
    Plant(
        "refused-taken-for-rung",
        "while Redis is full or read-only nothing goes on",
        "boundary:DoorbellBroker.ring",
        "if isinstance(answer, Exception):",
        "if answer is None:",
        "tests/boundary/doorbell/test_troubled_redis.py"
        "::test_the_trouble_of_one_list_is_that_of_one_consumer",
    ),
    Plant(
        "unrung-and-left",
        "while Redis is of no use each step waits for a relay",
        "boundary:WorkerLoop.ring",
        "self.answering.ask(unrung & self._wiring.consumers.keys())",
        "pass",
        "tests/boundary/runtime/test_answering.py"
        "::test_what_cannot_be_rung_is_answered_by_the_worker_that_sent_it",
    ),
    Plant(
        "patience-without-end",
        "a Redis that hangs holds up each request that starts a saga",
        "boundary.doorbell:PATIENCE",
        "PATIENCE = 0.5",
        "PATIENCE = 60.0",
        "tests/boundary/doorbell/test_troubled_redis.py::test_nobody_waits_for_one_that_hangs",
    ),
    Plant(
        "relay-rings-before-commit",
        "whoever hears the relay may not see yet what it moved",
        "internals:Relay.look",
        "self._move(unit, quiet) if quiet else ()",
        "self._move(unit, quiet) if quiet else ()\n"
        "            self._ring(frozenset(consumer for (consumer,) in rows))",
        f"{_RELAY}::TestLook::test_it_rings_after_its_commit",
    ),
    Plant(
        "stop-drops-doorbells",
        "what a worker had heard when it was told to stop waits for the relay",
        "boundary:DoorbellConsumer.requeue",
        "self._give_back()",
        "pass",
        f"{_BROKER}::TestConsume::test_what_was_heard_and_not_answered_is_rung_again",
    ),
    Plant(
        "stop-cuts-the-work",
        "a worker that is told to stop drops the work in hand",
        "boundary:RelayThread.before_worker_shutdown",
        "def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:",
        "def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:\n"
        "        os._exit(1)",
        "tests/scenarios/test_stopped_workers.py"
        "::test_what_is_under_way_is_finished_and_the_rest_is_left",
        "import os",
    ),
    Plant(
        "nothing-without-redis",
        "while Redis is away nothing goes on",
        "internals:Relay.look",
        "deaf, waiting = frozenset(self._consumers), {}",
        "deaf, waiting = frozenset(), {}",
        f"{_RELAY}::TestLook::test_without_redis_it_answers_what_is_due_itself",
    ),
)
