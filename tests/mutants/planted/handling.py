"""Mistakes around a handler: savepoints, counting, what is not known."""

from tests.mutants.plant import Plant

HANDLERS = (
    Plant(
        "no-savepoint",
        "what a failed handler wrote stays, and is written again",
        "internals:BatchedRunner.run",
        "if work.touched:",
        "if not work.touched:",
        "tests/internals/hop/test_batched_run.py"
        "::TestBatch::test_a_failing_handler_is_undone_alone",
    ),
    Plant(
        "conflict-is-counted",
        "a busy database parks deliveries with which nothing is wrong",
        "internals:_CONFLICTS",
        '_CONFLICTS = frozenset({"40001", "40P01", "55P03"})',
        '_CONFLICTS = frozenset({"40P01", "55P03"})',
        "tests/internals/hop/test_drain.py"
        "::TestConflicts::test_after_a_transient_error_the_batch_is_run_one_by_one",
    ),
    Plant(
        "conflict-alone-is-counted",
        "a delivery that loses against another transaction uses up its attempts",
        "internals:HandlerCalls.record",
        "elif outcome.gives_way:",
        "elif outcome.gives_way and delivery.attempts:",
        "tests/internals/hop/test_drain.py"
        "::TestConflicts::test_one_that_gives_way_alone_is_run_again_and_no_failure_is_counted",
    ),
    Plant(
        "corrupted-body",
        "one payload that cannot be read stops everything that is claimed with it",
        "internals:BatchedRunner.run",
        "protected, careful",
        "handler.message.from_json(delivery.message.payload)\n        protected, careful",
        "tests/internals/hop/test_batched_run.py"
        "::TestBatch::test_a_payload_that_does_not_fit_its_message_is_left_for_a_worker_that_can_read_it",
    ),
    Plant(
        "unknown-kind-discarded",
        "during a deploy the old workers throw away what only the new ones know",
        "internals:to_run",
        "batch.leave_to_others(delivery, reason, delay=left.delay(kind, reason))",
        "batch.succeed(delivery, [])",
        "tests/internals/hop/test_unhandled.py"
        "::TestUnknown::test_a_kind_that_this_worker_does_not_know_is_left_where_it_is",
    ),
    Plant(
        "unknown-version-parked",
        "during a deploy the old workers park the outcomes of the new sagas",
        "boundary:Orchestrator._fold",
        "why = str(error)\n"
        "            batch.leave_to_others(delivery, why, delay=self._left.delay(message.kind, why))",
        "batch.park(delivery, str(error), attempts=delivery.attempts)",
        "tests/boundary/orchestration/test_other_releases.py"
        "::TestUnknownVersion::test_it_is_left_where_it_is_visibly_until_a_worker_knows_it",
    ),
    Plant(
        "unexpected-discarded",
        "an outcome that belongs to nothing vanishes instead of being shown to somebody",
        "boundary:Orchestrator._fold",
        "batch.settlements.append(_unexpected(message.id, why))",
        "batch.settlements.append(Settlement(message.id, error=why))",
        "tests/boundary/orchestration/test_orchestrator.py::TestNotItsOwn"
        "::test_what_nothing_it_sent_can_have_caused_is_parked",
    ),
    Plant(
        "parked-in-silence",
        "a delivery is given up and its saga waits for ever, without a word",
        "internals:Batch.park",
        "if message.saga is not None and not own_fault:",
        "if message.saga is not None and own_fault:",
        "tests/internals/hop/test_retries.py"
        "::TestRetries::test_after_its_attempts_it_is_parked_and_the_saga_is_told",
    ),
    Plant(
        "handler-commits",
        "a handler that commits keeps its effect without its delivery, and does it again",
        "internals:SqlAlchemyUnitOfWork.handling",
        "connection.commit = connection.rollback = connection.get_transaction = _refuse",
        "connection.commit = connection.rollback = _refuse\n"
        "            connection.get_transaction = connection.get_transaction",
        "tests/internals/hop/test_retries.py"
        "::TestCommitInAHandler::test_it_is_refused_and_nothing_is_lost[_commit_transaction]",
    ),
    Plant(
        "handler-rolls-back",
        "a session that a handler rolls back undoes what others of its batch have done",
        "internals:SqlAlchemyDatabase.__init__",
        "        forbid_commit_in_handlers(engine)\n",
        "",
        "tests/boundary/runtime/test_engine.py"
        "::test_a_session_of_the_handler_s_own_cannot_end_the_transaction_of_its_batch",
    ),
    Plant(
        "rejection-in-silence",
        "the business says no, and the saga waits for an answer for ever",
        "internals:Batch.reject",
        "if message.saga is not None:",
        "if message.saga is None:",
        "tests/internals/hop/test_drain.py"
        "::TestAnswers::test_a_rejection_undoes_the_handler_and_tells_the_saga",
    ),
    Plant(
        "own-fault-is-free",
        "a handler whose statement always fails is run again for ever, and never parked",
        "internals:is_passing",
        "return is_transient(error) and not is_of_its_statement(error)",
        "return is_transient(error)",
        "tests/internals/hop/test_uncounted_retries.py::TestOwnFault"
        "::test_what_a_statement_brings_upon_itself_is_counted",
    ),
    Plant(
        "gives-way-for-ever",
        "a saga whose command finds no room is running for ever",
        "internals:Batch.give_way",
        "if is_over(yields, error, self.yields):",
        "if is_over(0, error, self.yields):",
        "tests/internals/hop/test_uncounted_retries.py::TestTrouble"
        "::test_it_ends_with_the_database_s_own_words",
    ),
    Plant(
        "refused-saga-is-left",
        "what the database refuses of one saga is tried for ever, and nobody is told",
        "boundary:Orchestrator._fold_one_by_one",
        "folding.batch.park(each, describe(error), outcome=outcome, attempts=attempts)",
        "folding.batch.leave(each, describe(error))",
        "tests/boundary/orchestration/test_refused_sagas.py"
        "::test_its_delivery_is_parked_with_the_database_s_words_and_the_others_go_on",
    ),
    Plant(
        "batch-waits-for-its-slowest",
        "one slow handler holds up everybody of its batch until their steps time out",
        "internals:BatchedRunner._limits",
        "return limit if alone else min(limit, self._watch.batch_limit), limit",
        "return limit, limit",
        "tests/internals/hop/test_time_limits.py::TestBatch"
        "::test_a_slow_handler_within_its_limit_is_run_again_alone_and_not_counted",
    ),
    Plant(
        "too-late-is-done",
        "a handler that swallows its end commits after others were told that it had failed",
        "internals:Watch.over",
        "close_session(run)\n            raise run.error\n",
        "return\n",
        "tests/internals/hop/test_time_limits.py::TestLimit::test_one_that_swallows_its_end_has_failed",
    ),
    Plant(
        "lock-wait-is-counted",
        "one who waits for a row that a frozen worker has locked is blamed for the waiting",
        "internals:ask_about_locks",
        "blocked = waits_for_lock(session)",
        "waits_for_lock(session)",
        "tests/internals/hop/test_time_limits_of_waits.py"
        "::TestLockWaits::test_one_that_is_ended_in_it_gives_way_uncounted",
    ),
    Plant(
        "lock-wait-before-the-limit-is-counted",
        "one who got the lock that it waited for, just before its limit, is blamed for the waiting",
        "internals:Watch._judge",
        "if run.blocked or ran - sampling.waited >= run.limit:",
        "if run.blocked or ran >= run.limit:",
        "tests/internals/hop/test_time_limits_of_waits.py::TestLockWaits"
        "::test_what_one_waited_before_it_got_the_lock_is_not_its_own_time",
    ),
    Plant(
        "stack-while-collecting",
        "a worker hangs for ever with all of its threads when it logs where a late handler is",
        "internals:_frame_of",
        "        gc.disable()\n",
        "        pass\n",
        "tests/internals/hop/test_interruption.py"
        "::test_where_a_thread_is_can_be_told_while_there_is_garbage",
    ),
    Plant(
        "suspect-lease-outlasts-the-bound",
        "a suspect whose worker is frozen waits for half a minute though the bound is of seconds",
        "internals:suspect_lease",
        "return min(SUSPECT_LEASE, max(frozen_after, _SHORTEST_LEASE))",
        "return SUSPECT_LEASE",
        "tests/boundary/runtime/test_runtime.py::test_a_suspect_is_leased_no_longer_than_the_bound",
    ),
)
