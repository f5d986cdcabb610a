"""Mistakes in sending, fanning out and starting."""

from tests.mutants.plant import Plant

_HOP = "tests/internals/hop/test_hop.py"
_STARTING = "tests/boundary/orchestration/test_start.py"

SENDS = (
    Plant(
        "doorbell-before-commit",
        "the worker looks before there is anything, and the order waits for the relay",
        "internals:call_after_commit",
        "calls.append(call)",
        'event.listen(connection, "commit", lambda _: call())',
        "tests/internals/database/test_unit_of_work.py::TestOnCommit"
        "::test_it_is_called_when_everyone_can_see_the_work",
    ),
    Plant(
        "send-outside-transaction",
        "a trip goes on to a hotel that was never booked, since only the message was committed",
        "internals:ContextConsumer._write",
        "return self._writer.write(hop, batch)",
        "with hop.unit.connection.engine.begin() as connection:\n"
        "                apart = type(hop.unit)(connection)\n"
        "                woken = frozenset(self._outbox.send(apart, batch.messages))\n"
        "            self._inbox.settle(hop.unit, batch.settlements)\n"
        "            return woken",
        f"{_HOP}::TestOneTransaction"
        "::test_an_error_at_the_commit_leaves_all_or_nothing[before-effects0]",
    ),
    Plant(
        "one-subscriber",
        "of two contexts that listen to an event only one hears it",
        "internals:_SENDING",
        "SELECT sent.id, sent.seq, sent.saga_id, s.consumer, s.held",
        "SELECT DISTINCT ON (sent.id) sent.id, sent.seq, sent.saga_id, s.consumer, s.held",
        "tests/internals/store/test_outbox.py::TestRouting"
        "::test_an_event_goes_to_everyone_who_subscribed_and_nobody_else",
    ),
    Plant(
        "awaited-by-nobody",
        "a saga never hears the event that it waits for, and stands still",
        "internals:_SENDING",
        "AND saga IS NOT NULL AND kind = ANY (awaits)",
        "AND saga IS NOT NULL AND recipient = ANY (awaits)",
        "tests/internals/store/test_outbox.py::TestRouting"
        "::test_what_a_step_awaits_finds_its_saga_from_far_down",
    ),
    Plant(
        "repeat-not-told",
        "a stream gives an event again and again, and the trace says nothing of it",
        "internals:Outbox.send",
        "repeats = Counter(message.id for message in messages) - Counter(new)",
        "repeats = Counter(message.id for message in messages) & Counter()",
        "tests/internals/store/test_trace.py::test_what_is_sent_again_is_dropped_and_says_so",
    ),
    Plant(
        "began-by-itself",
        "a rebooking stands beside the cancellation that it began with, and nobody sees why it is there",
        "boundary:_caused",
        "return replace(start, causation_id=work.message.id, sender=work.consumer)",
        "return replace(start, sender=work.consumer)",
        f"{_STARTING}::TestByAHandler::test_the_saga_hangs_below_the_event",
    ),
    Plant(
        "key-ignored",
        "whoever clicks twice books two trips",
        "boundary:business_key",
        "if key is None and saga.key is not None:\n        key = saga.key(data)",
        "if key is None and saga.key is None:",
        "tests/boundary/orchestration/test_start_keys.py"
        "::TestKey::test_the_same_key_with_the_same_data_is_the_same_saga",
    ),
    Plant(
        "key-conflict-ignored",
        "an order under a used key is taken for placed, and is another one",
        "boundary:Starter._started_before",
        "if not same:",
        "if not same and key is None:",
        "tests/boundary/orchestration/test_start_keys.py"
        "::TestKey::test_with_other_data_it_is_a_conflict",
    ),
    Plant(
        "redis-is-needed",
        "while Redis is away each batch of work ends in an error",
        "boundary:DoorbellBroker.ring",
        "logger.warning(\n"
        '                    "Redis cannot be used (%s); workers find what is due by themselves", said(error)\n'
        "                )",
        "raise ConnectionError(said(error)) from error",
        "tests/boundary/doorbell/test_redis_broker.py::TestRing"
        "::test_a_redis_that_is_away_is_not_the_caller_s_trouble",
    ),
    Plant(
        "start-by-itself",
        "a saga is started for an order that was never placed, since its transaction failed",
        "internals:joined",
        "if connection.connection.driver_connection.autocommit:",
        "if not connection.connection.driver_connection:",
        "tests/internals/database/test_unit_of_work.py::TestJoined::test_autocommit_is_refused",
    ),
    Plant(
        "subscribed-too-late",
        "what the first deliveries of a new worker publish reaches nobody",
        "boundary:WorkerLoop.answer",
        "self._wiring.prepare()",
        "pass",
        "tests/boundary/runtime/test_runtime.py::TestAnswer"
        "::test_subscriptions_are_recorded_before_anything_is_handled",
    ),
    Plant(
        "start-by-a-thread-is-another",
        "a handler that starts sagas with threads and is run again starts them twice",
        "internals:Work.start_many",
        "_handling.set(self)",
        "_handling.set(_handling.get())",
        "tests/boundary/runtime/test_starting_in_handlers.py"
        "::test_a_thread_of_the_handler_starts_the_same_saga_too",
    ),
    Plant(
        "wait-goes-on-while-stuck",
        "a script that waits for a saga waits in vain though a person is needed",
        "boundary:SagaHandle.wait",
        ".final or status is Status.STUCK):",
        ".final):",
        "tests/boundary/runtime/test_saga_handle.py::TestWait"
        "::test_it_ends_when_the_saga_is_over_or_stuck[-1-stuck]",
    ),
    Plant(
        "page-of-sagas-skips",
        "a list of sagas that began at one moment ends with its first page",
        "boundary.queries.saga_list:_LIST",
        "(started_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))",
        "started_at < %(before_at)s::timestamptz)",
        "tests/boundary/runtime/test_saga_handle.py::TestSagas"
        "::test_a_list_goes_on_where_the_page_before_ended",
    ),
)
