"""Mistakes with what acts outside the database, and with what kills its workers."""

from tests.mutants.plant import Plant

_HOP_SQL = "internals/hop_sql.py"
_STATEMENTS = "internals/statements.py"
_CONSUMER = "internals/context_consumer.py"
_LEASED = "tests/internals/test_leased.py"

LEASES = (
    Plant(
        "lease-never-ends",
        "a call that was under way when its worker died is never made again",
        _HOP_SQL,
        "state = 'pending' AND due_at <= now() AND {FIRST",
        "state = 'pending' AND due_at <= now() AND lease IS NULL AND {FIRST",
        f"{_LEASED}::TestExternal"
        "::test_one_whose_worker_is_gone_is_run_again_with_the_same_key_when_its_lease_ends",
    ),
    Plant(
        "lease-of-no-time",
        "two workers make the same call at the same time",
        _STATEMENTS,
        "    due_at = clock_timestamp() + ends.after, ring_at",
        "    ring_at",
        f"{_LEASED}::TestExternal"
        "::test_while_it_calls_out_no_transaction_is_open_and_nobody_else_takes_it",
    ),
    Plant(
        "lease-not-checked",
        "a slow worker writes over one that took its lease: the receipt is there twice",
        _STATEMENTS,
        "  AND lease = %(lease)s\n",
        "  AND %(lease)s IS NOT NULL\n",
        f"{_LEASED}::TestExternal::test_also_while_the_other_is_still_at_it",
    ),
    Plant(
        "key-of-each-run",
        "a charge that is tried again is a second charge",
        "internals/work.py",
        'return f"{self.consumer}:{self.message.id}"',
        'return f"{self.consumer}:{self._new_id()}"',
        "tests/internals/test_work.py::TestIdentity"
        "::test_the_idempotency_key_stays_the_same_however_often_it_is_run",
    ),
    Plant(
        "suspect-never-parked",
        "a delivery that kills its workers kills them for ever",
        _CONSUMER,
        "        if delivery.attempts >= limit:\n",
        "        if handler.external and delivery.attempts >= limit:\n",
        f"{_LEASED}::TestSuspect::test_what_kills_its_workers_is_parked_after_so_many_starts",
    ),
    Plant(
        "suspect-in-the-batch",
        "a delivery that kills its worker takes innocent ones with it, each time",
        _CONSUMER,
        "not handler.external and delivery.rings < SUSPECT_RINGS",
        "not handler.external",
        f"{_LEASED}::TestSuspect::test_it_takes_nothing_else_of_its_batch_with_it",
    ),
    Plant(
        "stop-is-a-failure",
        "a deploy counts the calls that it cuts as failed, and parks them",
        "internals/leased.py",
        "        elif is_interrupt(error):\n"
        "            raise  # the worker is told to stop: the lease runs out\n",
        "",
        f"{_LEASED}::TestExternal"
        "::test_one_whose_worker_is_gone_is_run_again_with_the_same_key_when_its_lease_ends",
    ),
    Plant(
        "lease-told-as-delay",
        "a call that took a moment is said to have waited for as long as its lease",
        _STATEMENTS,
        "    claimed_at = now(), ready_at = due_at,\n",
        "    claimed_at = now(),\n",
        "tests/internals/test_trace.py::test_what_acts_outside_was_due_before_its_lease",
    ),
)
