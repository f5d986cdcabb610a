"""Mistakes around contexts with a database of their own: forwarding, parcels, and what is down."""

from tests.mutants.plant import Plant

_SQL = "internals/remote/sql.py"
_FORWARDING = "internals/remote/forwarding.py"
_RETURNING = "internals/remote/returning.py"
_ARRIVAL = "internals/remote/arrival.py"
_TESTS = "tests/boundary/test_own_database.py"

FORWARDS = (
    Plant(
        "forwarded-again-is-run-again",
        "a worker dies between two databases, and the hotel is booked twice",
        _SQL,
        "    ON CONFLICT (message_id, consumer) DO NOTHING\n",
        "    ON CONFLICT (message_id, consumer)"
        " DO UPDATE SET state = 'pending', due_at = now(), done_at = NULL\n",
        f"{_TESTS}::TestCut::test_what_was_handled_there_meanwhile_is_not_handled_again",
    ),
    Plant(
        "forwarded-before-it-is-said",
        "a booking is said not to have been made, and is made",
        _SQL,
        "    lease = coalesce(lease, %(lease)s), started_at = coalesce(started_at, clock_timestamp())",
        "    lease = coalesce(lease, %(lease)s)",
        f"{_TESTS}::TestCut::test_what_may_have_arrived_is_not_taken_for_unstarted",
    ),
    Plant(
        "lost-answer-is-a-no",
        "the hotel has the booking, its commit's answer was lost, and the trip is told: not done",
        _FORWARDING,
        "            told = True\n            opened.commit()\n",
        "            opened.commit()\n            told = True\n",
        f"{_TESTS}::TestCut::test_what_may_have_arrived_is_not_taken_for_unstarted",
    ),
    Plant(
        "unforwarded-counts-as-started",
        "while a hotel's database is down no deadline can take a booking back",
        _SQL,
        "SET due_at = again.at, ring_at = again.at, started_at = NULL, lease",
        "SET due_at = again.at, ring_at = again.at, lease",
        f"{_TESTS}::TestAway::test_a_command_that_could_not_go_there_is_taken_back_at_its_deadline",
    ),
    Plant(
        "cut-off-for-ever",
        "what a worker was forwarding when it died is forwarded by nobody",
        _SQL,
        "FROM (SELECT * FROM due UNION ALL SELECT * FROM cut) AS i",
        "FROM (SELECT * FROM due) AS i",
        f"{_TESTS}::TestCut::test_whatever_is_cut_everything_happens_once",
    ),
    Plant(
        "nobody-rings-for-the-cut-off",
        "it is forwarded when the next booking happens to come along",
        "internals/remote/stale_forwards.py",
        "        return {name for (name,) in unit.run(self._statements.cut_off, asked)}\n",
        "        return set()\n",
        f"{_TESTS}::TestRelays::test_it_rings_for_what_somebody_did_not_end_forwarding",
    ),
    Plant(
        "parcel-without-contents",
        "the room is booked, and nobody hears of it",
        "internals/remote/results.py",
        '            tuple(from_json_object(envelope) for envelope in stored["sent"]),\n',
        "            (),\n",
        f"{_TESTS}::TestBothWays::test_a_command_goes_there_and_what_came_of_it_comes_home",
    ),
    Plant(
        "parcel-applied-twice",
        "what an operator retried is parked again by the news of its first failure",
        _ARRIVAL,
        "            if applied == each.id:\n"
        "                continue  # it did too, and an operator has had it delivered again since\n",
        "",
        f"{_TESTS}::TestParked::test_a_parcel_that_comes_twice_does_not_park_it_again",
    ),
    Plant(
        "retried-without-a-run",
        "an operator retries a booking after the fix, and it is never run",
        _SQL,
        "      AND over.known AND over.done\n",
        "      AND over.known AND NOT over.done\n",
        f"{_TESTS}::TestParked::test_retried_at_home_it_is_run_there_again",
    ),
    Plant(
        "parked-counts-as-done",
        "what failed, and left nothing, is undone",
        _ARRIVAL,
        "        self._tell_untouched(unit, [*(e for e in parked if not e.started), *untouched])\n",
        "",
        f"{_TESTS}::TestParked::test_what_left_nothing_there_may_be_taken_back",
    ),
    Plant(
        "order-lost-on-the-way",
        "the cancelling overtakes the booking on the way to another database",
        _ARRIVAL,
        "                batch.keys.add(key)\n",
        "                batch.keys.discard(key)\n",
        f"{_TESTS}::TestOrder::test_of_one_key_they_go_there_one_by_one",
    ),
    Plant(
        "poison-parcel",
        "one answer that cannot be stored keeps a hotel's other answers back",
        _RETURNING,
        "            if _stops(error):\n                raise\n            woken, settled =",
        "            if True:\n                raise\n            woken, settled =",
        f"{_TESTS}::TestPoison::test_a_parcel_that_home_cannot_take_holds_up_no_other",
    ),
    Plant(
        "hammering-what-is-down",
        "all threads of a worker wait for the one server that is down",
        "internals/database/circuit_breaker.py",
        "        return self._failures > 0 and (self._trying or time.monotonic() < self._next)\n",
        "        return False\n",
        f"{_TESTS}::TestAway::test_it_is_left_alone_for_a_while_then",
    ),
    Plant(
        "idle-when-home-is-down",
        "a hotel's own team stands still whenever the travel agent's database does",
        "internals/remote/context.py",
        "            self._failed.append(error)\n            return 0\n",
        "            raise error\n",
        f"{_TESTS}::TestAway::test_while_home_is_down_the_mill_goes_on_with_what_it_has",
    ),
    Plant(
        "restored-and-forgotten",
        "after a backup is restored sagas wait for what was done long ago",
        _SQL,
        "      AND NOT over.known\n",
        "      AND over.known\n",
        f"{_TESTS}::TestRelays::test_what_home_has_lost_comes_home_anew",
    ),
    Plant(
        "a-no-from-elsewhere-is-overtaken",
        "the hotel said no, and the trip is said to be booked",
        _ARRIVAL,
        "closes=not each.parked, quiet=quiet",
        "closes=not each.parked, quiet=quiet and False",
        "tests/boundary/test_settling.py"
        "::test_a_no_from_further_down_is_not_overtaken_by_all_being_settled",
    ),
    Plant(
        "parcels-without-turn",
        "seats are given away in another order than the inn gave them",
        "internals/remote/results.py",
        "            self.inbox.take_turn(unit)\n",
        "            pass\n",
        f"{_TESTS}::TestOrder::test_who_publishes_there_keeps_others_from_it_until_its_commit",
    ),
    Plant(
        "parcels-as-they-began",
        "seats are given away in the order in which the inn began to give them",
        "internals/store/sql/hop.py",
        "THEN (SELECT clock_timestamp())\n",
        "THEN now()\n",
        f"{_TESTS}::TestOrder::test_what_is_published_there_comes_home_as_it_was_committed",
    ),
    Plant(
        "begun-elsewhere",
        "a saga is started in a database in which nobody looks for it",
        "boundary/runtime/own_databases.py",
        "            if url == engine.url != home().url:\n",
        "            if url == home().url != engine.url:\n",
        f"{_TESTS}::TestProcesses::test_sagas_and_events_begin_at_home",
    ),
)
