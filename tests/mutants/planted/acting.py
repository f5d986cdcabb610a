"""Mistakes in what operators do, and in its audit."""

from tests.mutants.plant import Plant

_ACTING = "tests/boundary/orchestration/test_operator_actions.py"
_DECIDE = "tests/saga/decide/test"


ACTS = (
    Plant(
        "cancel-after-pivot",
        "a trip that is paid for is cancelled, half of it",
        "saga:_refusal_of_cancel",
        "if pivot_passed(saga, state):",
        "if pivot_passed(saga, state) and state.status is Status.STUCK:",
        "tests/saga/decide/test_cancel.py::test_after_the_pivot_it_is_refused",
    ),
    Plant(
        "replay-of-the-same",
        "a replay sends what was sent before, so it is dropped and nothing goes on",
        "saga:_begun_again",
        "generation=known.generation + 1,",
        "generation=known.generation,",
        f"{_DECIDE}_operator_actions.py::test_the_steps_own_command_is_sent_anew",
    ),
    Plant(
        "replay-is-a-second-order",
        "a charge whose answer was lost is made once more by the replay",
        "saga:Course.order",
        "intent=None if intent == id else intent",
        "intent=None",
        f"{_DECIDE}_replay.py::test_a_command_that_is_sent_anew_means_what_it_meant",
    ),
    Plant(
        "undone-is-not-said",
        "a refund does not say what it pays back, and is paid twice",
        "saga:Course.order",
        "if not forward and known.context is not None:",
        "if forward and known.context is not None:",
        f"{_DECIDE}_replay.py::test_a_compensation_keeps_what_it_means_and_says_what_it_undoes",
    ),
    Plant(
        "passes-forgotten",
        "after a second replay from a step a command is dropped as sent before, and waited for",
        "saga:rewound",
        "            **state.generations,\n",
        "",
        f"{_DECIDE}_replay.py::test_no_id_is_sent_again_over_several_replays_from_a_step",
    ),
    Plant(
        "replay-twice",
        "a replayed step is done twice once its parked command is retried too",
        "saga:_replay",
        "        course.supersede.extend(known.parked)\n",
        "",
        f"{_ACTING}::TestSaga::test_a_replayed_one_orders_anew_and_the_parked_row_stays",
    ),
    Plant(
        "act-without-audit",
        "nobody can tell who cancelled the trip, and why",
        "boundary:OperatorActions.act",
        '        self.audit.record(unit, actor, act.kind.partition(".")[2], _reason(act), detail, saga_id)\n',
        "",
        f"{_ACTING}::TestAudit::test_each_act_on_a_saga_has_its_row",
    ),
    Plant(
        "drop-without-audit",
        "nobody can tell who dropped the delivery",
        "boundary:ParkedDeliveries._record",
        'self._audit.record(unit, actor, f"parked {act}", reason, detail, message_id=id)',
        "assert reason",
        f"{_ACTING}::TestAudit::test_so_has_each_act_on_a_parked_delivery",
    ),
    Plant(
        "audit-can-be-changed",
        "whoever did it changes the audit afterwards",
        "migrations.versions.0001_message_store:upgrade",
        "audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON",
        "audit_append_only BEFORE TRUNCATE ON",
        f"{_ACTING}::TestAudit::test_no_row_is_ever_changed_even_by_the_tables_owner",
    ),
    Plant(
        "audit-granted",
        "a role that the schema grants everything to may change the audit",
        "migrations.versions.0001_message_store:upgrade",
        '    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {SCHEMA}.audit FROM PUBLIC")\n',
        "",
        f"{_ACTING}::TestAudit::test_nobody_else_may_change_it_whatever_the_schema_grants",
    ),
    Plant(
        "drop-deletes",
        "what was dropped is gone, with the reason why",
        "internals:DROP_PARKED",
        "UPDATE {schema}.inbox\n"
        "SET state = 'revoked', outcome = %(outcome)s, done_at = clock_timestamp(),\n"
        "    last_error = concat_ws('; ', last_error, %(why)s::text)",
        "DELETE FROM {schema}.inbox",
        f"{_ACTING}::TestParked::test_one_that_is_dropped_stays_with_the_reason",
    ),
)
