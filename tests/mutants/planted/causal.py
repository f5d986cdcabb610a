"""Mistakes around causal trees: counting, undo, order by key, past events."""

from tests.mutants.plant import Plant

_SQL = "internals/causal_sql.py"
_BATCH = "internals/batch.py"
_SETTLING = "tests/boundary/test_settling.py"
_ORDERING = "tests/boundary/test_ordering.py"
_BACKFILL = "tests/boundary/test_backfill.py"

CAUSAL = (
    Plant(
        "closed-uncounted",
        "a step that waits until all is done waits for ever",
        _BATCH,
        "        self._count(message, refuses=refuses)\n        if delivery",
        "        if delivery",
        f"{_SETTLING}::test_the_step_is_over_when_all_below_it_is_done_at_any_depth",
    ),
    Plant(
        "no-overtaken-by-settled",
        "a trip goes on though the hotel said no, since all else was done",
        _BATCH,
        "message.id, closes, quiet=refuses)",
        "message.id, closes, quiet=False)",
        f"{_SETTLING}::test_a_no_from_further_down_is_not_overtaken_by_all_being_settled",
    ),
    Plant(
        "own-delivery-counted",
        "a step is over while something below it is still to be done",
        "internals/settling.py",
        "if not consumer.startswith(RESERVED_PREFIX)",
        "if consumer",
        f"{_SETTLING}::test_what_the_saga_itself_was_to_consume_is_not_counted",
    ),
    Plant(
        "undo-held-by-backfill",
        "a saga waits with its undo until a new subscriber has read last year's events",
        _SQL,
        "    WHERE o.id = i.message_id AND s.consumer",
        "    WHERE s.consumer",
        f"{_SETTLING}::TestUndo::test_it_does_not_wait_for_a_backfill_of_the_context",
    ),
    Plant(
        "opened-uncounted",
        "tickets are said to be printed while the printer has not begun",
        _SQL,
        "THEN s.open + change.n ELSE",
        "THEN s.open + least(change.n, 0) ELSE",
        f"{_SETTLING}::test_the_step_is_over_when_all_below_it_is_done_at_any_depth",
    ),
    Plant(
        "dropped-still-open",
        "an operator drops what cannot be mended, and the saga waits for it still",
        "boundary/acts.py",
        "        return frozenset(self._outbox.settling.close(unit, rows))\n",
        "        return frozenset()\n",
        f"{_SETTLING}::test_what_is_dropped_is_not_waited_for",
    ),
    Plant(
        "caused-and-undone-in-order",
        "the seat is given back before the boarding pass for it is",
        _SQL,
        "%(key)s, -seq FROM sent",
        "%(key)s, seq FROM sent",
        f"{_SETTLING}::TestUndo::test_the_last_to_be_done_is_undone_first",
    ),
    Plant(
        "undone-without-having-run",
        "what was refused, and so never done, is undone",
        _SQL,
        "      AND (i.state = 'done' AND i.last_error IS NULL\n",
        "      AND (i.state = 'done'\n",
        f"{_SETTLING}::TestUndo::test_a_no_from_further_down_undoes_what_was_done",
    ),
    Plant(
        "late-reaction-stands",
        "a car that is rented while the trip is being undone stays rented",
        _SQL,
        "FROM changed WHERE undo_id IS NOT NULL\n",
        "FROM changed WHERE undo_id IS NOT NULL AND false\n",
        f"{_SETTLING}::TestUndo::test_a_reaction_that_comes_late_is_undone_when_it_comes",
    ),
    Plant(
        "not-taken-back",
        "what was not begun when the step was given up is done and undone",
        _SQL,
        "(i.started_at IS NULL OR i.state = 'parked' OR i.lease IS NULL OR i.due_at <= now())",
        "i.state = 'parked'",
        f"{_SETTLING}::TestUndo::test_a_handler_that_never_ran_is_not_undone",
    ),
    Plant(
        "key-without-order",
        "a flight is said to be on time after it was cancelled",
        "internals/statements.py",
        "AND due_at <= now() AND {FIRST_OF_ITS_KEY}\n",
        "AND due_at <= now()\n",
        f"{_ORDERING}::test_those_that_one_handler_publishes_are_in_its_order",
    ),
    Plant(
        "key-without-lock",
        "of two publishers the one that commits first overtakes the one that wrote first",
        "internals/statements.py",
        "    SELECT pg_advisory_xact_lock(hashtextextended(key, 0))\n",
        "    SELECT hashtextextended(key, 0)\n",
        f"{_ORDERING}::test_the_order_is_that_of_commits_and_not_of_numbers",
    ),
    Plant(
        "next-of-key-forgotten",
        "what waits for its predecessor waits for the relay",
        _BATCH,
        "            self.keys.add(delivery.ordering_key)\n",
        "            pass\n",
        f"{_ORDERING}::test_one_by_one_in_the_order_of_sending",
    ),
    Plant(
        "held-up-by-nothing",
        "an event that was sent while the one before it ended is never handled",
        "internals/relay.py",
        "        if not keys:\n            return set()\n",
        "        if keys:\n            return set()\n",
        f"{_ORDERING}::test_the_relay_finds_what_nothing_holds_up",
    ),
    Plant(
        "backfill-runs-ahead",
        "an event that was committed late is in nobody's inbox",
        "boundary/operator/backfilling.py",
        "            if work.passed(unit, barrier):\n",
        "            if work.passed(unit, barrier) or True:\n",
        f"{_BACKFILL}::test_an_event_that_was_published_to_the_subscribers_of_before_is_not_missed",
    ),
    Plant(
        "backfill-mixed-with-live",
        "the new subscriber hears today's events before those of last year",
        "internals/backfill.py",
        "        self._run(unit, _HOLD, held=True)\n",
        "",
        f"{_BACKFILL}::test_live_events_wait_until_it_is_finished",
    ),
    Plant(
        "consumed-without-a-place",
        "a saga's record does not lead to its state any more",
        "internals/statements.py",
        "       CASE WHEN heard THEN m.position END,",
        "       NULL::int,",
        "tests/boundary/test_colocation.py::test_what_is_stored_is_the_same_either_way",
    ),
)
