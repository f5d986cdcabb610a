"""Mistakes in what a saga does: order, doubt, deadlines, waits."""

from tests.mutants.plant import Plant

_CONSEQUENCES = "tests/boundary/orchestration/test_delivery_changes.py"
_DECIDE = "tests/saga/decide/test"

SAGAS = (
    Plant(
        "undone-in-order",
        "the flight is cancelled while the transfer from its gate still stands",
        "saga:to_undo",
        "for _, name in sorted(standing, reverse=True)]",
        "for _, name in sorted(standing)]",
        f"{_DECIDE}_backward.py"
        "::test_in_reverse_order_of_completion_which_is_not_that_of_the_definition",
    ),
    Plant(
        "undone-in-order-of-definition",
        "of parallel steps the one that was done last is not undone first",
        "saga:to_undo",
        "(step.position or 0, name)",
        "(list(state.steps).index(name), name)",
        f"{_DECIDE}_backward.py"
        "::test_in_reverse_order_of_completion_which_is_not_that_of_the_definition",
    ),
    Plant(
        "not-joined",
        "the trip is paid before the car is known",
        "saga:Course._forward",
        "if any(state.steps[step.name].phase in IN_FLIGHT for step in group):",
        "if all(state.steps[step.name].phase in IN_FLIGHT for step in group):",
        f"{_DECIDE}_backward.py::test_three_in_parallel_are_joined_when_the_last_is_known",
    ),
    Plant(
        "undone-beside-a-sibling",
        "a branch is rejected and all is undone while its sibling is still being done",
        "saga:Course._backward",
        "if s.phase in IN_FLIGHT and not s.fault]",
        "if s.phase is Phase.COMPENSATING and not s.fault]",
        f"{_DECIDE}_backward.py::test_a_rejection_waits_for_the_siblings_then_undoes_what_they_did",
    ),
    Plant(
        "rejected-late-is-nothing",
        "no came from further down, and what the step's first hop did stands for ever",
        "saga:_reject",
        "phase=Phase.REJECTED if own else Phase.REJECTED_LATE,",
        "phase=Phase.REJECTED,",
        f"{_DECIDE}_backward.py::test_no_further_down_the_step_itself_is_undone_too",
    ),
    Plant(
        "pivot-undone",
        "a trip that is paid and flown is taken back",
        "saga:_reject",
        "if pivot_passed(saga, state):",
        "if pivot_passed(saga, state) and step.pivot:",
        f"{_DECIDE}_stuck.py::test_after_the_pivot_a_rejection_leaves_it_stuck",
    ),
    Plant(
        "refused-compensation-is-one",
        "a hotel refuses to be cancelled, and the trip is said to be undone",
        "saga:_of_compensation",
        'fault=f"its compensation was rejected: {reason}", parked=()',
        "phase=Phase.COMPENSATED, rejection=reason, parked=()",
        f"{_DECIDE}_stuck.py::test_a_compensation_that_is_rejected_leaves_it_stuck_never_compensated",
    ),
    Plant(
        "doubt-forgotten",
        "a charge whose answer never came is not paid back",
        "saga:STANDING",
        "STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE, Phase.IN_DOUBT})",
        "STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE})",
        f"{_DECIDE}_deadlines.py::test_not_taken_back_it_is_in_doubt_and_undone_first",
    ),
    Plant(
        "late-success-stands",
        "a charge that succeeds after its trip was undone is kept",
        "saga:_outcome",
        "if known is None or not known.doubt or phase",
        "if known is None or state.status.final or phase",
        f"{_DECIDE}_doubt.py::test_a_compensated_saga_opens_compensates_and_closes",
    ),
    Plant(
        "frozen-call-forgotten",
        "a bank was frozen until its charge was given up, charges then, and nobody refunds it",
        "internals:LeasedRunner._settle",
        "if ours is None and leased.handler.external and",
        "if ours is None and not leased.handler.external and",
        "tests/boundary/orchestration/test_given_up.py"
        "::test_a_call_that_outlives_its_undoing_is_undone_once_more[None]",
    ),
    Plant(
        "failed-after-its-undoing",
        "a charge is cut off after its trip was undone, and what it took is kept",
        "saga:_failure",
        "return message.id if told.revoked and told.started else None",
        "return None",
        f"{_DECIDE}_late_outcomes.py"
        "::test_a_call_that_was_under_way_and_failed_after_it_was_undone_undoes_it_again",
    ),
    Plant(
        "undone-for-ever",
        "each time that the same error is told, a hotel is cancelled once more",
        "saga:learn_late",
        "if failure is None or failure in known.failures or step",
        "if failure is None or step",
        f"{_DECIDE}_late_outcomes.py::test_also_where_the_step_was_given_up_because_of_it[how1]",
    ),
    Plant(
        "done-again-beside-itself",
        "a car is rented anew while the order for the first one, which took long, is still out",
        "saga:_revoked",
        "if state.rewind_to is not None:",
        "if state.rewind_to == step.name:",
        f"{_DECIDE}_replay.py::test_it_is_not_done_again_before_its_outcome_is_known",
    ),
    Plant(
        "late-success-overtaken",
        "a charge that succeeds while it is being paid back is kept",
        "saga:learn_late",
        "return state.with_step(step.name, doubt=False, again=True)",
        "return state.with_step(step.name, doubt=False)",
        f"{_DECIDE}_doubt.py::test_while_it_is_undone_it_is_undone_once_more_with_a_new_generation",
    ),
    Plant(
        "siblings-not-taken-back",
        "one branch is rejected, and the others are still begun",
        "saga:Course.give_up",
        "                self.take_back(state, name)\n",
        "",
        f"{_DECIDE}_deadlines.py::test_the_sibling_is_taken_back_but_awaited_if_that_fails",
    ),
    Plant(
        "taken-back-in-words",
        "a charge that was given up is made all the same, after the trip was undone",
        "boundary:Consequences._carry_out_revocations",
        "taken = {id: started for id, _, _, started in rows}",
        "taken = {root: False for root, _, _ in self._revoke}",
        f"{_CONSEQUENCES}::TestRevocation"
        "::test_what_is_being_handled_is_not_and_its_late_success_is_undone",
    ),
    Plant(
        "never-taken-back",
        "the trip is undone while the order to charge it waits for the bank to open",
        "internals:REVOKE",
        "SET state = 'revoked', outcome = 'given_up', done_at = clock_timestamp(),",
        "SET done_at = clock_timestamp(),",
        f"{_CONSEQUENCES}::TestRevocation::test_what_nobody_started_is_taken_back_and_never_done",
    ),
    Plant(
        "call-taken-back",
        "a charge of which only the answer was lost is taken for never made",
        "internals:REVOKE",
        "RETURNING i.message_id, i.consumer, i.ordering_key, i.started_at IS NOT NULL",
        "RETURNING i.message_id, i.consumer, i.ordering_key, false",
        f"{_CONSEQUENCES}::TestRevocation"
        "::test_a_call_to_the_outside_that_was_started_is_not_and_is_not_made_again",
    ),
    Plant(
        "deadline-in-memory",
        "a restart forgets all deadlines",
        "boundary:Orchestrator._write",
        "woken = self._writer.write(HopTransaction(unit), folding.batch, sagas=sagas)",
        "for sent in [m for m in folding.batch.messages if m.delay]:\n"
        "            timer = threading.Timer(sent.delay, self._outbox.send, [unit, [sent]])\n"
        "            timer.daemon = True\n"
        "            timer.start()\n"
        "        folding.batch.messages = [m for m in folding.batch.messages if not m.delay]\n"
        "        woken = self._writer.write(HopTransaction(unit), folding.batch, sagas=sagas)",
        f"{_CONSEQUENCES}::TestDeadline"
        "::test_it_is_a_due_time_in_postgres_that_outlives_every_worker",
        "import threading",
    ),
    Plant(
        "signal-too-early",
        "an approval that is faster than its trip is lost, and the trip waits for ever",
        "saga:_signalled",
        "return replace(state, early=(*state.early, kept))",
        "return stale(state)",
        f"{_DECIDE}_waits.py::test_what_comes_early_is_kept",
    ),
    Plant(
        "signals-by-kind",
        "an approval that came after a refusal counts, since both were early",
        "saga:Course.begin_wait",
        "(early for early in state.early if early.kind in step.awaits)",
        "(early for k in step.awaits for early in state.early if early.kind == k)",
        f"{_DECIDE}_waits.py::test_of_two_kinds_the_one_that_came_first_counts",
    ),
    Plant(
        "failed-branch-needs-a-person",
        "a trip that is being undone waits for a person, for a branch that left nothing",
        "saga:_outcome",
        "if failed and moved.direction is Direction.BACKWARD:",
        "if failed and moved.direction is Direction.FORWARD:",
        f"{_DECIDE}_operator_actions.py::test_one_that_left_nothing_is_as_good_as_taken_back",
    ),
    Plant(
        "stuck-is-not-given-up",
        "a stuck trip is cancelled, or its time is over, and it stays stuck",
        "saga:Course.give_up",
        "state = self.give_up_failed(state, name, overdue=overdue)",
        "continue",
        "tests/saga/decide/test_cancel.py::test_a_stuck_saga_turns_back_at_once",
    ),
    Plant(
        "history-never-looked-at",
        "the check of the history says that all is well, whatever is stored",
        "boundary:_differences_of",
        "if fold(saga, saga_id, messages) != stored.state(saga, saga_id):",
        "if fold(saga, saga_id, messages).id != stored.state(saga, saga_id).id:",
        "tests/chaos/test_checker.py::test_it_sees[a state that no history leads to]",
    ),
)
