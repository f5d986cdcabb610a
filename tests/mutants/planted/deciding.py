"""Mistakes in what a saga does: order, doubt, deadlines, waits."""

from tests.mutants.plant import Plant

_STATEMENTS = "internals/store/sql/giving_up.py"
_COURSE = "saga/decide/next_steps.py"
_REWINDING = "saga/decide/rewinding.py"
_OUTCOMES = "saga/decide/outcomes.py"
_ORCHESTRATOR = "boundary/orchestration/orchestrator.py"
_CONSEQUENCES = "tests/boundary/test_consequences.py"
_DECIDE = "tests/saga/test_decide"

SAGAS = (
    Plant(
        "undone-in-order",
        "the flight is cancelled while the transfer from its gate still stands",
        _REWINDING,
        "for _, name in sorted(standing, reverse=True)]",
        "for _, name in sorted(standing)]",
        f"{_DECIDE}_backward.py"
        "::test_in_reverse_order_of_completion_which_is_not_that_of_the_definition",
    ),
    Plant(
        "undone-in-order-of-definition",
        "of parallel steps the one that was done last is not undone first",
        _REWINDING,
        "        (step.position or 0, name)\n",
        "        (list(state.steps).index(name), name)\n",
        f"{_DECIDE}_backward.py"
        "::test_in_reverse_order_of_completion_which_is_not_that_of_the_definition",
    ),
    Plant(
        "not-joined",
        "the trip is paid before the car is known",
        _COURSE,
        "            if any(state.steps[step.name].phase in IN_FLIGHT for step in group):\n",
        "            if all(state.steps[step.name].phase in IN_FLIGHT for step in group):\n",
        f"{_DECIDE}_backward.py::test_three_in_parallel_are_joined_when_the_last_is_known",
    ),
    Plant(
        "undone-beside-a-sibling",
        "a branch is rejected and all is undone while its sibling is still being done",
        _COURSE,
        "if s.phase in IN_FLIGHT and not s.fault]\n        if going:",
        "if s.phase is Phase.COMPENSATING and not s.fault]\n        if going:",
        f"{_DECIDE}_backward.py::test_a_rejection_waits_for_the_siblings_then_undoes_what_they_did",
    ),
    Plant(
        "rejected-late-is-nothing",
        "no came from further down, and what the step's first hop did stands for ever",
        _OUTCOMES,
        "phase=Phase.REJECTED if own else Phase.REJECTED_LATE,",
        "phase=Phase.REJECTED,",
        f"{_DECIDE}_backward.py::test_no_further_down_the_step_itself_is_undone_too",
    ),
    Plant(
        "pivot-undone",
        "a trip that is paid and flown is taken back",
        _OUTCOMES,
        "    if pivot_passed(saga, state):\n        return state.with_step(\n            step.name,\n"
        '            fault=f"rejected after',
        "    if pivot_passed(saga, state) and step.pivot:\n        return state.with_step(\n"
        '            step.name,\n            fault=f"rejected after',
        f"{_DECIDE}_stuck.py::test_after_the_pivot_a_rejection_leaves_it_stuck",
    ),
    Plant(
        "refused-compensation-is-one",
        "a hotel refuses to be cancelled, and the trip is said to be undone",
        _OUTCOMES,
        'fault=f"its compensation was rejected: {reason}", parked=()',
        "phase=Phase.COMPENSATED, rejection=reason, parked=()",
        f"{_DECIDE}_stuck.py::test_a_compensation_that_is_rejected_leaves_it_stuck_never_compensated",
    ),
    Plant(
        "doubt-forgotten",
        "a charge whose answer never came is not paid back",
        "saga/state.py",
        "STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE, Phase.IN_DOUBT})",
        "STANDING = frozenset({Phase.DONE, Phase.REJECTED_LATE})",
        f"{_DECIDE}_deadlines.py::test_not_taken_back_it_is_in_doubt_and_undone_first",
    ),
    Plant(
        "late-success-stands",
        "a charge that succeeds after its trip was undone is kept",
        "saga/decide/__init__.py",
        "    if known is None or not known.doubt or phase",
        "    if known is None or state.status.final or phase",
        f"{_DECIDE}_doubt.py::test_a_compensated_saga_opens_compensates_and_closes",
    ),
    Plant(
        "frozen-call-forgotten",
        "a bank was frozen until its charge was given up, charges then, and nobody refunds it",
        "internals/hop/lease.py",
        "            if ours is None and leased.handler.external and",
        "            if ours is None and not leased.handler.external and",
        "tests/boundary/test_given_up.py"
        "::test_a_call_that_outlives_its_undoing_is_undone_once_more[None]",
    ),
    Plant(
        "failed-after-its-undoing",
        "a charge is cut off after its trip was undone, and what it took is kept",
        _OUTCOMES,
        "        return message.id if told.revoked and told.started else None\n",
        "        return None\n",
        f"{_DECIDE}_late.py"
        "::test_a_call_that_was_under_way_and_failed_after_it_was_undone_undoes_it_again",
    ),
    Plant(
        "undone-for-ever",
        "each time that the same error is told, a hotel is cancelled once more",
        _OUTCOMES,
        "        if failure is None or failure in known.failures or step",
        "        if failure is None or step",
        f"{_DECIDE}_late.py::test_also_where_the_step_was_given_up_because_of_it[how1]",
    ),
    Plant(
        "done-again-beside-itself",
        "a car is rented anew while the order for the first one, which took long, is still out",
        _OUTCOMES,
        "    if state.rewind_to is not None:\n        return",
        "    if state.rewind_to == step.name:\n        return",
        f"{_DECIDE}_replay.py::test_it_is_not_done_again_before_its_outcome_is_known",
    ),
    Plant(
        "late-success-overtaken",
        "a charge that succeeds while it is being paid back is kept",
        _OUTCOMES,
        "        return state.with_step(step.name, doubt=False, again=True)\n    return _comp",
        "        return state.with_step(step.name, doubt=False)\n    return _comp",
        f"{_DECIDE}_doubt.py::test_while_it_is_undone_it_is_undone_once_more_with_a_new_generation",
    ),
    Plant(
        "siblings-not-taken-back",
        "one branch is rejected, and the others are still begun",
        _COURSE,
        "                self.take_back(state, name)\n",
        "",
        f"{_DECIDE}_deadlines.py::test_the_sibling_is_taken_back_but_awaited_if_that_fails",
    ),
    Plant(
        "taken-back-in-words",
        "a charge that was given up is made all the same, after the trip was undone",
        "boundary/orchestration/delivery_changes.py",
        "        taken = {id: started for id, _, _, started in rows}\n",
        "        taken = {root: False for root, _, _ in self._revoke}\n",
        f"{_CONSEQUENCES}::TestRevocation"
        "::test_what_is_being_handled_is_not_and_its_late_success_is_undone",
    ),
    Plant(
        "never-taken-back",
        "the trip is undone while the order to charge it waits for the bank to open",
        _STATEMENTS,
        "SET state = 'revoked', done_at = clock_timestamp(),\n"
        "    last_error = concat_ws('; ', i.last_error,",
        "SET done_at = clock_timestamp(),\n    last_error = concat_ws('; ', i.last_error,",
        f"{_CONSEQUENCES}::TestRevocation::test_what_nobody_started_is_taken_back_and_never_done",
    ),
    Plant(
        "call-taken-back",
        "a charge of which only the answer was lost is taken for never made",
        _STATEMENTS,
        "RETURNING i.message_id, i.consumer, i.ordering_key, i.started_at IS NOT NULL\n",
        "RETURNING i.message_id, i.consumer, i.ordering_key, false\n",
        f"{_CONSEQUENCES}::TestRevocation"
        "::test_a_call_to_the_outside_that_was_started_is_not_and_is_not_made_again",
    ),
    Plant(
        "deadline-in-memory",
        "a restart forgets all deadlines",
        _ORCHESTRATOR,
        "        woken = self._writer.write(HopTransaction(unit), folding.batch, sagas=sagas)\n",
        "        for sent in [m for m in folding.batch.messages if m.delay]:\n"
        "            timer = threading.Timer(sent.delay, self._outbox.send, [unit, [sent]])\n"
        "            timer.daemon = True\n"
        "            timer.start()\n"
        "        folding.batch.messages = [m for m in folding.batch.messages if not m.delay]\n"
        "        woken = self._writer.write(HopTransaction(unit), folding.batch, sagas=sagas)\n",
        f"{_CONSEQUENCES}::TestDeadline"
        "::test_it_is_a_due_time_in_postgres_that_outlives_every_worker",
        "import threading",
    ),
    Plant(
        "signal-too-early",
        "an approval that is faster than its trip is lost, and the trip waits for ever",
        "saga/decide/__init__.py",
        "    return replace(state, early=(*state.early, kept))\n",
        "    return stale(state)\n",
        f"{_DECIDE}_waits.py::test_what_comes_early_is_kept",
    ),
    Plant(
        "signals-by-kind",
        "an approval that came after a refusal counts, since both were early",
        _COURSE,
        "(early for early in state.early if early.kind in step.awaits)",
        "(early for k in step.awaits for early in state.early if early.kind == k)",
        f"{_DECIDE}_waits.py::test_of_two_kinds_the_one_that_came_first_counts",
    ),
    Plant(
        "failed-branch-needs-a-person",
        "a trip that is being undone waits for a person, for a branch that left nothing",
        "saga/decide/__init__.py",
        "        if failed and moved.direction is Direction.BACKWARD:\n",
        "        if failed and moved.direction is Direction.FORWARD:\n",
        f"{_DECIDE}_acts.py::test_one_that_left_nothing_is_as_good_as_taken_back",
    ),
    Plant(
        "stuck-is-not-given-up",
        "a stuck trip is cancelled, or its time is over, and it stays stuck",
        _COURSE,
        "                state = self.give_up_failed(state, name, overdue=overdue)\n",
        "                continue\n",
        f"{_DECIDE}_acts.py::test_a_stuck_saga_turns_back_at_once",
    ),
    Plant(
        "history-never-looked-at",
        "the check of the history says that all is well, whatever is stored",
        "boundary/operations/consistency.py",
        "    if fold(saga, saga_id, messages) != stored.state(saga, saga_id):\n",
        "    if fold(saga, saga_id, messages).id != stored.state(saga, saga_id).id:\n",
        "tests/chaos/test_checker.py::test_it_sees[a state that no history leads to]",
    ),
)
