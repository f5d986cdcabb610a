"""Mistakes with what acts outside the database, and with what kills its workers."""

from tests.mutants.plant import Plant

_LEASED = "tests/internals/hop/test_lease.py"

LEASES = (
    Plant(
        "lease-never-ends",
        "a call that was under way when its worker died is never made again",
        "internals:CLAIM",
        "state = 'pending' AND due_at <= now() AND {FIRST",
        "state = 'pending' AND due_at <= now() AND lease IS NULL AND {FIRST",
        f"{_LEASED}::TestExternal"
        "::test_one_whose_worker_is_gone_is_run_again_with_the_same_key_when_its_lease_ends",
    ),
    Plant(
        "lease-of-no-time",
        "two workers make the same call at the same time",
        "internals:LEASE",
        "due_at = clock_timestamp() + ends.after, ring_at",
        "ring_at",
        f"{_LEASED}::TestExternal"
        "::test_while_it_calls_out_no_transaction_is_open_and_nobody_else_takes_it",
    ),
    Plant(
        "lease-not-checked",
        "a slow worker that failed ends the run of the one that took its lease",
        "internals:HOLD_LEASE",
        "SELECT lease IS NOT DISTINCT FROM %(lease)s FROM",
        "SELECT %(lease)s IS NOT NULL FROM",
        f"{_LEASED}::TestExternal::test_a_failure_of_whoever_lost_its_lease_is_nothing",
    ),
    Plant(
        "key-of-each-run",
        "a charge that is tried again is a second charge",
        "internals:Work.idempotency_key",
        "return self.message.idempotency_key(self.consumer)",
        'return f"{self.consumer}:{uuid7()}"',
        "tests/internals/test_work.py::TestIdentity"
        "::test_the_idempotency_key_stays_the_same_however_often_it_is_run",
        "from internals.ids import uuid7",
    ),
    Plant(
        "ids-of-each-run",
        "after a restore from a backup a stream gets the events of that time under ids it does not know",
        "internals:Work._send",
        "id=id,",
        "id=uuid7(),",
        "tests/internals/test_work_ids.py::TestIds::test_a_run_that_is_repeated_sends_the_same",
        "from internals.ids import uuid7",
    ),
    Plant(
        "given-up-runs-again",
        "a charge is made after its trip was undone, since its worker had died of the first try",
        "internals:to_run",
        "elif delivery.given_up:",
        "elif delivery.given_up and delivery.rings > 99:",
        "tests/boundary/orchestration/test_given_up.py"
        "::test_one_whose_worker_died_under_a_lease_is_not_started_again",
    ),
    Plant(
        "given-up-is-tried-again",
        "a charge that failed while its trip was given up waits for its next try for days",
        "internals:BatchWriter.judge_failed",
        "if started is None:",
        "if started is not True or failed.external:",
        "tests/boundary/orchestration/test_given_up.py"
        "::TestARunThatFails::test_it_is_not_started_again_after_the_deadline",
    ),
    Plant(
        "suspect-never-parked",
        "a delivery that kills its workers kills them for ever",
        "internals:ContextConsumer._lease",
        "if delivery.attempts >= limit:",
        "if handler.external and delivery.attempts >= limit:",
        f"{_LEASED}::TestSuspect::test_what_kills_its_workers_is_parked_after_so_many_starts",
    ),
    Plant(
        "suspect-in-the-batch",
        "a delivery that kills its worker takes innocent ones with it, each time",
        "internals:ContextConsumer.handle",
        "not handler.external and delivery.rings < SUSPECT_RINGS",
        "not handler.external",
        f"{_LEASED}::TestSuspect::test_it_takes_nothing_else_of_its_batch_with_it",
    ),
    Plant(
        "stop-is-a-failure",
        "a deploy counts the calls that it cuts as failed, and parks them",
        "internals:LeasedRunner.run",
        "            if is_interrupt(error):\n"
        "                raise  # the worker is to stop: the lease runs out\n",
        "",
        f"{_LEASED}::TestExternal"
        "::test_one_whose_worker_is_gone_is_run_again_with_the_same_key_when_its_lease_ends",
    ),
    Plant(
        "lease-not-renewed",
        "a call that takes longer than its lease is made five times side by side",
        "internals:_Pulse._renew",
        'unit.run(self._statements.renew, {"leases": records(leases)})',
        "pass",
        "tests/internals/hop/test_lease_heartbeat.py::test_a_renewal_that_fails_is_tried_again",
    ),
    Plant(
        "late-result-is-nothing",
        "a call that was answered after its lease is made again, though it was paid for",
        "internals:LeasedRunner._settle",
        "if ours is None or not (ours or batch.has_result):",
        "if not ours:",
        f"{_LEASED}::TestExternal::test_while_the_other_is_still_at_it_the_first_result_counts",
    ),
    Plant(
        "slow-is-not-undone",
        "a refund is not made for a charge that took long",
        "internals:ORDER_UNDO",
        "i.outcome IN ('handled', 'overran')",
        "i.outcome = 'handled'",
        "tests/internals/hop/test_lease_heartbeat.py"
        "::test_what_took_longer_than_its_lease_is_undone_as_all_else",
    ),
    Plant(
        "lease-told-as-delay",
        "a call that took a moment is said to have waited for as long as its lease",
        "internals:LEASE",
        "claimed_at = now(), ready_at = due_at,",
        "claimed_at = now(),",
        "tests/internals/store/test_trace.py::test_what_acts_outside_was_due_before_its_lease",
    ),
)
