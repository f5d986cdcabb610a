"""Mistakes around a handler: savepoints, counting, what is not known."""

from tests.mutants.plant import Plant

_CONSUMER = "internals/hop/context_consumer.py"
_ORCHESTRATOR = "boundary/orchestration/orchestrator.py"
_HOP = "tests/internals/test_hop.py"

HANDLERS = (
    Plant(
        "no-savepoint",
        "what a failed handler wrote stays, and is written again",
        "internals/hop/batched_run.py",
        "                if work.touched:\n",
        "                if not work.touched:\n",
        f"{_HOP}::TestBatch::test_a_failing_handler_is_undone_alone",
    ),
    Plant(
        "conflict-is-counted",
        "a busy database parks deliveries with which nothing is wrong",
        "internals/database/errors.py",
        '_CONFLICTS = frozenset({"40001", "40P01", "55P03"})',
        '_CONFLICTS = frozenset({"40P01", "55P03"})',
        f"{_HOP}::TestConflicts::test_after_a_transient_error_the_batch_is_run_one_by_one",
    ),
    Plant(
        "conflict-alone-is-counted",
        "a delivery that loses against another transaction uses up its attempts",
        "internals/hop/handler_calls.py",
        "        elif outcome.gives_way:\n",
        "        elif outcome.gives_way and delivery.attempts:\n",
        f"{_HOP}::TestConflicts"
        "::test_one_that_gives_way_alone_is_run_again_and_no_failure_is_counted",
    ),
    Plant(
        "corrupted-body",
        "one payload that cannot be read stops everything that is claimed with it",
        "internals/hop/batched_run.py",
        "        protected, careful",
        "        handler.message.from_json(delivery.message.payload)\n        protected, careful",
        f"{_HOP}::TestBatch::"
        "test_a_payload_that_does_not_fit_its_message_is_left_for_a_worker_that_can_read_it",
    ),
    Plant(
        "unknown-kind-discarded",
        "during a deploy the old workers throw away what only the new ones know",
        "internals/hop/dispatch.py",
        "batch.leave(delivery, reason, delay=left.delay(kind, reason))",
        "batch.succeed(delivery, [])",
        f"{_HOP}::TestUnknown::test_a_kind_that_this_worker_does_not_know_is_left_where_it_is",
    ),
    Plant(
        "unknown-version-parked",
        "during a deploy the old workers park the outcomes of the new sagas",
        _ORCHESTRATOR,
        "            batch.leave(delivery, str(error), delay=self._left.delay(message.kind, str(error)))\n",
        "            batch.park(delivery, str(error), attempts=delivery.attempts)\n",
        "tests/boundary/test_orchestrator.py::TestUnknownVersion"
        "::test_it_is_left_where_it_is_visibly_until_a_worker_knows_it",
    ),
    Plant(
        "unexpected-discarded",
        "an outcome that belongs to nothing vanishes instead of being shown to somebody",
        _ORCHESTRATOR,
        "Settlement(message.id, DeliveryState.PARKED, error=why)",
        "Settlement(message.id, DeliveryState.DONE, error=why)",
        "tests/boundary/test_orchestrator.py::TestNotItsOwn"
        "::test_what_nothing_it_sent_can_have_caused_is_parked",
    ),
    Plant(
        "parked-in-silence",
        "a delivery is given up and its saga waits for ever, without a word",
        "internals/hop/batch.py",
        "if message.saga is not None and not own_fault:",
        "if message.saga is not None and own_fault:",
        f"{_HOP}::TestRetries::test_after_its_attempts_it_is_parked_and_the_saga_is_told",
    ),
    Plant(
        "handler-commits",
        "a handler that commits keeps its effect without its delivery, and does it again",
        "internals/database/unit_of_work.py",
        "            connection.commit = connection.rollback = connection.get_transaction = _refuse\n",
        "            connection.commit = connection.rollback = _refuse\n"
        "            connection.get_transaction = connection.get_transaction\n",
        f"{_HOP}::TestCommitInAHandler"
        "::test_it_is_refused_and_nothing_is_lost[_commit_transaction]",
    ),
    Plant(
        "handler-rolls-back",
        "a session that a handler rolls back undoes what others of its batch have done",
        "internals/database/connections.py",
        "        forbid_commit_in_handlers(engine)\n",
        "",
        "tests/boundary/test_runtime_engine.py"
        "::test_a_session_of_the_handler_s_own_cannot_end_the_transaction_of_its_batch",
    ),
    Plant(
        "rejection-in-silence",
        "the business says no, and the saga waits for an answer for ever",
        "internals/hop/batch.py",
        "        if message.saga is not None:\n            self.messages.append(self._reply(message, Ref",
        "        if message.saga is None:\n            self.messages.append(self._reply(message, Ref",
        f"{_HOP}::TestAnswers::test_a_rejection_undoes_the_handler_and_tells_the_saga",
    ),
    Plant(
        "own-fault-is-free",
        "a handler whose statement always fails is run again for ever, and never parked",
        "internals/database/errors.py",
        "return is_transient(error) and not is_of_its_statement(error)",
        "return is_transient(error)",
        "tests/internals/test_giving_way.py::TestOwnFault"
        "::test_what_a_statement_brings_upon_itself_is_counted",
    ),
    Plant(
        "gives-way-for-ever",
        "a saga whose command finds no room is running for ever",
        "internals/hop/batch.py",
        "        if is_over(yields, error, self.yields):\n",
        "        if is_over(0, error, self.yields):\n",
        "tests/internals/test_giving_way.py::TestTrouble"
        "::test_it_ends_with_the_database_s_own_words",
    ),
    Plant(
        "refused-saga-is-left",
        "what the database refuses of one saga is tried for ever, and nobody is told",
        _ORCHESTRATOR,
        "folding.batch.park(each, describe(error), attempts=each.attempts + 1)",
        "folding.batch.leave(each, describe(error))",
        "tests/boundary/test_refused_sagas.py"
        "::test_its_delivery_is_parked_with_the_database_s_words_and_the_others_go_on",
    ),
    Plant(
        "batch-waits-for-its-slowest",
        "one slow handler holds up everybody of its batch until their steps time out",
        "internals/hop/batched_run.py",
        "        return limit if alone else min(limit, self._watch.batch_limit), limit\n",
        "        return limit, limit\n",
        "tests/internals/test_watch.py::TestBatch"
        "::test_a_slow_handler_within_its_limit_is_run_again_alone_and_not_counted",
    ),
    Plant(
        "too-late-is-done",
        "a handler that swallows its end commits after others were told that it had failed",
        "internals/hop/time_limits.py",
        "        if run.late:\n            close_session(run)\n            raise run.error\n",
        "        if run.late:\n            return\n",
        "tests/internals/test_watch.py::TestLimit::test_one_that_swallows_its_end_has_failed",
    ),
    Plant(
        "lock-wait-is-counted",
        "one who waits for a row that a frozen worker has locked is blamed for the waiting",
        "internals/hop/interruption.py",
        "            run.blocked = waits_for_lock(session)\n",
        "            waits_for_lock(session)\n",
        "tests/internals/test_watch.py::TestLockWaits"
        "::test_one_that_is_ended_in_it_gives_way_uncounted",
    ),
    Plant(
        "suspect-lease-outlasts-the-bound",
        "a suspect whose worker is frozen waits for half a minute though the bound is of seconds",
        _CONSUMER,
        "    return min(SUSPECT_LEASE, max(frozen_after, _SHORTEST_LEASE))\n",
        "    return SUSPECT_LEASE\n",
        "tests/boundary/test_runtime.py::test_a_suspect_is_leased_no_longer_than_the_bound",
    ),
)
