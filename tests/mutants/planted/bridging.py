"""Mistakes around bridges: what goes out to streams, and what comes in from them."""

from tests.mutants.plant import Plant

_TESTS = "tests/boundary/bridges/test_bridges.py"

BRIDGES = (
    Plant(
        "unconfirmed-is-done",
        "a stream is down, and the events of that time are never seen by anybody",
        "boundary:_RedisSink.send",
        "return {place: StreamTrouble(str(error)) for place in range(len(events))}",
        "return {}",
        "tests/boundary/bridges/test_outgoing.py"
        "::TestOutInTrouble::test_redis_is_down_and_nothing_is_lost_or_blamed",
    ),
    Plant(
        "stream-is-asked-all-the-time",
        "a stream that is away keeps the threads and the transactions of all workers",
        "boundary:OutgoingConsumer.handle",
        "if time.monotonic() < self._next:",
        "if False:",
        "tests/boundary/bridges/test_outgoing.py"
        "::TestOutInTrouble::test_nothing_is_claimed_while_the_stream_is_known_to_be_away",
    ),
    Plant(
        "refused-for-ever",
        "an event that is too large is sent again and again, and nobody is told",
        "boundary:OutgoingConsumer._note",
        "elif isinstance(error, EventRefused):",
        "elif isinstance(error, ZeroDivisionError):",
        "tests/boundary/bridges/test_outgoing.py"
        "::TestOutInTrouble::test_what_kafka_will_never_take_is_parked_and_holds_up_its_key_alone",
    ),
    Plant(
        "confirmed-before-it-is-stored",
        "a receiver dies, and what it had read is in no database",
        "boundary:Receiver.receive",
        "events = source.poll(_BATCH)",
        "events = source.poll(_BATCH)\n        source.confirm()",
        f"{_TESTS}::TestIn::test_nothing_is_confirmed_that_was_not_stored",
    ),
    Plant(
        "ids-of-all-sources-are-one",
        "an event of another source is taken for one that was there",
        "boundary:Origin.message_id",
        "json.dumps([self.source, self.id])",
        "json.dumps([self.id])",
        f"{_TESTS}::TestIn::test_ids_that_are_no_uuids_are_known_by_their_source",
    ),
    Plant(
        "anybody-answers-for-a-step",
        "a stranger who may write to a topic confirms a booking",
        "boundary:Receiver._store",
        "bridges = self.answered if self.bridge.joins_sagas else None",
        "bridges = self.answered",
        "tests/boundary/bridges/test_answers.py"
        "::TestSagas::test_nobody_answers_for_a_step_where_that_is_not_asked_for",
    ),
    Plant(
        "outside-id-is-ours",
        "a stranger takes the place of a command that a saga will send, and it waits for ever",
        "boundary:Origin.message_id",
        "return uuid5(uuid5(_NAMESPACE, self.bridge), json.dumps([self.source, self.id]))",
        "return UUID(self.id)",
        "tests/boundary/bridges/test_outside_ids.py::TestComputed"
        "::test_a_saga_sends_what_it_would_though_somebody_has_named_an_event_so[fee:commanded:1]",
    ),
    Plant(
        "answered-before-it-was-asked",
        "who knows a saga's id answers for a step that nobody outside was told of",
        "boundary:Answers.cause",
        "next((known for known in named if known.gone_out), None)",
        "next(iter(named), None)",
        "tests/boundary/bridges/test_outside_ids.py::TestAnswers"
        "::test_what_never_went_out_was_answered_by_nobody[berth:commanded:1]",
    ),
    Plant(
        "another-message-is-a-repeat",
        "a saga whose command another message took the place of waits for ever, without a word",
        "internals:BatchWriter.write",
        "        outbox.refuse_others(unit, rows, batch.messages)\n",
        "",
        "tests/boundary/orchestration/test_foreign_rows.py::TestSaga"
        "::test_it_is_stuck_with_the_reason_and_the_others_go_on[apart]",
    ),
    Plant(
        "poison-ends-the-receiver",
        "one event that the database refuses keeps all others out, after each restart again",
        "boundary:Receiver._take",
        "if patient and is_transient(error):\n                raise",
        "raise",
        "tests/boundary/bridges/test_poison.py::TestSetAside"
        "::test_read_again_after_a_restart_it_is_set_aside_once[redis]",
    ),
    Plant(
        "circles-go-on",
        "two contexts answer each other until the disk is full",
        "internals:Outbox.check_depth",
        "if depth > self._max_depth:",
        "if depth > 10 * self._max_depth:",
        "tests/boundary/orchestration/test_depth.py"
        "::test_a_circle_of_events_ends_with_a_parked_delivery_that_says_why[False]",
    ),
    Plant(
        "left-to-nobody",
        "what a dead reader had read stays with it",
        "boundary:_RedisSource._read",
        "if entries:",
        "if False:",
        f"{_TESTS}::TestReaders::test_another_reader_takes_over_what_a_dead_one_left",
    ),
)
