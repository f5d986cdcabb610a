"""Mistakes in claiming, settling and keeping each delivery to itself."""

from tests.mutants.plant import Plant

_HOP = "tests/internals/hop/test_hop.py"

CLAIMS = (
    Plant(
        "claim-of-settled",
        "each doorbell does again what was done before",
        "internals:CLAIM",
        "WHERE consumer = %(consumer)s AND state = 'pending' AND due_at <= now() AND {FIRST",
        "WHERE consumer = %(consumer)s AND due_at <= now() AND {FIRST",
        f"{_HOP}::TestClaim::test_a_repeated_doorbell_finds_nothing",
    ),
    Plant(
        "claim-without-lock",
        "two workers that wake at once both charge the card",
        "internals:CLAIM",
        "    FOR UPDATE SKIP LOCKED\n",
        "",
        f"{_HOP}::TestClaim::test_it_skips_what_another_transaction_holds",
    ),
    Plant(
        "claim-before-due",
        "a retry does not wait: a system that is down is hammered",
        "internals:CLAIM",
        "state = 'pending' AND due_at <= now() AND {FIRST",
        "state = 'pending' AND {FIRST",
        "tests/internals/hop/test_retries.py"
        "::TestRetries::test_what_waits_is_not_run_before_it_is_due",
    ),
    Plant(
        "saga-without-lock",
        "two outcomes of one saga at once: one of them is lost",
        "internals:CLAIM_SAGAS",
        "WHERE id = d.saga_id FOR UPDATE SKIP LOCKED",
        "WHERE id = d.saga_id",
        "tests/internals/store/test_claim_sagas.py"
        "::test_a_saga_that_another_transaction_has_comes_without_its_state",
    ),
    Plant(
        "claim-reads-all",
        "the longer the history, the longer each hop takes",
        "internals:MESSAGE",
        "WHERE id = i.message_id OFFSET 0)",
        "WHERE id = i.message_id)",
        "tests/boundary/runtime/test_plans.py::test_no_statement_of_a_hop_reads_a_table_or_all_that_is_due",
    ),
    Plant(
        "settle-overwrites",
        "a worker that comes late takes back what another has settled",
        "internals:SETTLE",
        "  AND coalesce(i.state = 'pending', false)\n",
        "",
        "tests/internals/store/test_inbox.py::TestSettle"
        "::test_a_late_worker_does_not_overwrite_what_is_settled",
    ),
    Plant(
        "settle-before-handle",
        "a worker that dies in a handler loses its delivery for good",
        "internals:ContextConsumer.handle",
        "batch = Batch(",
        "self._inbox.settle(unit, [Settlement(d.message.id) for d in deliveries])\n"
        "        unit.connection.commit()\n"
        "        unit.connection.begin()\n"
        "        batch = Batch(",
        f"{_HOP}::TestOneTransaction"
        "::test_an_error_at_the_commit_leaves_all_or_nothing[before-effects0]",
        "from internals.store.delivery import Settlement",
    ),
    Plant(
        "inbox-without-key",
        "nothing keeps one message from being delivered twice to one consumer",
        "migrations.versions.0001_message_store:upgrade",
        '        sa.PrimaryKeyConstraint("message_id", "consumer", name="inbox_pkey"),\n',
        "",
        "tests/boundary/test_migration.py::TestSchema"
        "::test_conditions_of_indexes_and_checks_are_those_declared",
    ),
    Plant(
        "repeat-is-new",
        "a message that is sent twice is handled twice",
        "internals:Outbox.parameters",
        "once = by_id(messages).values()",
        "once = [replace(message, id=uuid7()) for message in messages]",
        "tests/internals/store/test_outbox.py::TestOnce"
        "::test_an_id_sent_before_is_dropped_with_its_deliveries",
        "from dataclasses import replace\nfrom internals.ids import uuid7",
    ),
)
