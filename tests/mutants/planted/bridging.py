"""Mistakes around bridges: what goes out to streams, and what comes in from them."""

from tests.mutants.plant import Plant

_OUT = "boundary/bridges/outgoing.py"
_IN = "boundary/bridges/incoming.py"
_TESTS = "tests/boundary/bridges/test_bridges.py"

BRIDGES = (
    Plant(
        "unconfirmed-is-done",
        "a stream is down, and the events of that time are never seen by anybody",
        "boundary/bridges/redis_stream.py",
        "            return {event.id: StreamTrouble(str(error)) for event in events}",
        "            return {}",
        f"{_TESTS}::TestOutInTrouble::test_redis_is_down_and_nothing_is_lost_or_blamed",
    ),
    Plant(
        "stream-is-asked-all-the-time",
        "a stream that is away keeps the threads and the transactions of all workers",
        _OUT,
        "        if time.monotonic() < self._next:\n",
        "        if False:\n",
        f"{_TESTS}::TestOutInTrouble::test_nothing_is_claimed_while_the_stream_is_known_to_be_away",
    ),
    Plant(
        "refused-for-ever",
        "an event that is too large is sent again and again, and nobody is told",
        _OUT,
        "            elif isinstance(error, EventRefused):\n",
        "            elif isinstance(error, ZeroDivisionError):\n",
        f"{_TESTS}::TestOutInTrouble::"
        "test_what_kafka_will_never_take_is_parked_and_holds_up_its_key_alone",
    ),
    Plant(
        "confirmed-before-it-is-stored",
        "a receiver dies, and what it had read is in no database",
        _IN,
        "        events = source.poll(_BATCH)\n",
        "        events = source.poll(_BATCH)\n        source.confirm()\n",
        f"{_TESTS}::TestIn::test_nothing_is_confirmed_that_was_not_stored",
    ),
    Plant(
        "ids-of-all-sources-are-one",
        "an event of another source is taken for one that was there",
        "boundary/bridges/cloud_event.py",
        "        return uuid5(_NAMESPACE, f\"{event.attributes['source']}\\n{event.id}\")",
        "        return uuid5(_NAMESPACE, event.id)",
        f"{_TESTS}::TestIn::test_ids_that_are_no_uuids_are_known_by_their_source",
    ),
    Plant(
        "anybody-answers-for-a-step",
        "a stranger who may write to a topic confirms a booking",
        _IN,
        "            causes = self._causes(unit, events) if self.bridge.joins_sagas else {}\n",
        "            causes = self._causes(unit, events)\n",
        f"{_TESTS}::TestSagas::test_nobody_answers_for_a_step_where_that_is_not_asked_for",
    ),
    Plant(
        "left-to-nobody",
        "what a dead reader had read stays with it",
        "boundary/bridges/redis_stream.py",
        "            if entries:\n                self._next_look = 0.0\n",
        "            if False:\n                self._next_look = 0.0\n",
        f"{_TESTS}::TestReaders::test_another_reader_takes_over_what_a_dead_one_left",
    ),
)
