"""Mistakes around contexts with a database of their own: forwarding, parcels, and what is down."""

from tests.mutants.plant import Plant

_TESTS = "tests/boundary/runtime/test_own_databases.py"
_LAPSED = "tests/boundary/runtime/test_lapsed_forwards.py"

#: The end of the statement that says that deliveries arrived.

FORWARDS = (
    Plant(
        "forwarded-again-is-run-again",
        "a worker dies between two databases, and the hotel is booked twice",
        "internals:FORWARD",
        "ON CONFLICT (message_id, consumer) DO NOTHING",
        "ON CONFLICT (message_id, consumer) DO UPDATE SET state = 'pending', due_at = now(), done_at = NULL",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestCut::test_what_was_handled_there_meanwhile_is_not_handled_again",
    ),
    Plant(
        "forwarded-before-it-is-said",
        "a booking is said not to have been made, and is made",
        "internals:BEGIN_FORWARDING",
        "lease = %(lease)s, started_at = coalesce(started_at, clock_timestamp())",
        "lease = %(lease)s",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestCut::test_what_may_have_arrived_is_not_taken_for_unstarted",
    ),
    Plant(
        "lost-answer-is-a-no",
        "the hotel has the booking, its commit's answer was lost, and the trip is told: not done",
        "internals:Forwarder._forward",
        "told = True\n            opened.commit()",
        "opened.commit()\n            told = True",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestCut::test_what_may_have_arrived_is_not_taken_for_unstarted",
    ),
    Plant(
        "unforwarded-counts-as-started",
        "while a hotel's database is down no deadline can take a booking back",
        "internals:GIVE_BACK",
        "due_at = again.at, ring_at = again.at, started_at = NULL, lease",
        "due_at = again.at, ring_at = again.at, lease",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestAway::test_a_command_that_could_not_go_there_is_taken_back_at_its_deadline",
    ),
    Plant(
        "cut-off-for-ever",
        "what a worker was forwarding when it died is forwarded by nobody",
        "internals:TO_FORWARD",
        "due_at <= now() AND {FIRST_OF_ITS_KEY}",
        "due_at <= now() AND wait_reason IS NULL AND {FIRST_OF_ITS_KEY}",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestCut::test_whatever_is_cut_everything_happens_once",
    ),
    Plant(
        "nobody-rings-for-the-cut-off",
        "it is forwarded when the next booking happens to come along",
        "internals:RING",
        "WHERE state = 'pending' AND due_at <= now() AND ring_at <= now()",
        "WHERE state = 'pending' AND due_at <= now() AND ring_at <= now() AND wait_reason IS NULL",
        "tests/boundary/runtime/test_own_databases_relays.py"
        "::TestRelays::test_it_rings_for_what_somebody_did_not_end_forwarding",
    ),
    Plant(
        "cut-off-is-not-undone",
        "a hotel keeps a booking of a trip that was undone: who forwarded it died, and it had arrived",
        "internals:IDLE",
        "OR i.due_at <= now() AND i.wait_reason IS NULL)",
        "OR i.due_at <= now())",
        f"{_LAPSED}::test_a_reaction_is_not_taken_back_when_its_step_is_undone",
    ),
    Plant(
        "frozen-forwarder-is-heard",
        "a forwarder that wakes after its lease says that a booking arrived that another one forwards",
        "internals:CONFIRM",
        "AND wait_reason = 'forwarding' AND lease = %(lease)s",
        "AND wait_reason = 'forwarding'",
        f"{_LAPSED}::test_who_lost_the_lease_says_nothing_any_more[after]",
    ),
    Plant(
        "parcel-without-contents",
        "the room is booked, and nobody hears of it",
        "internals:Parcel.from_json",
        'tuple(from_json_object(envelope) for envelope in stored["sent"]),',
        "(),",
        f"{_TESTS}::TestBothWays::test_a_command_goes_there_and_what_came_of_it_comes_home",
    ),
    Plant(
        "parcel-applied-twice",
        "what an operator retried is parked again by the news of its first failure",
        "internals:Arrival.handle",
        "            if applied == each.id:\n"
        "                continue  # it did too, and an operator has had it delivered again since\n",
        "",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestParked::test_a_parcel_that_comes_twice_does_not_park_it_again",
    ),
    Plant(
        "retried-without-a-run",
        "an operator retries a booking after the fix, and it is never run",
        "internals:FORWARD",
        "AND over.known AND over.done",
        "AND over.known AND NOT over.done",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestParked::test_retried_at_home_it_is_run_there_again",
    ),
    Plant(
        "parked-counts-as-done",
        "what failed, and left nothing, is undone",
        "internals:Arrival.handle",
        "        self._tell_untouched(unit, [*(e for e in parked if not e.started), *untouched])\n",
        "",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestParked::test_what_left_nothing_there_may_be_taken_back",
    ),
    Plant(
        "order-lost-on-the-way",
        "the cancelling overtakes the booking on the way to another database",
        "internals:Arrival.handle",
        "batch.keys.add(key)",
        "batch.keys.discard(key)",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestOrder::test_of_one_key_they_go_there_one_by_one",
    ),
    Plant(
        "poison-parcel",
        "one answer that cannot be stored keeps a hotel's other answers back",
        "internals:Returner.handle",
        "if _stops(error):",
        "if True:",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestPoison::test_a_parcel_that_home_cannot_take_holds_up_no_other",
    ),
    Plant(
        "hammering-what-is-down",
        "all threads of a worker wait for the one server that is down",
        "internals:Reach.away",
        "return self._failures > 0 and (self._trying or time.monotonic() < self._next)",
        "return False",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestAway::test_it_is_left_alone_for_a_while_then",
    ),
    Plant(
        "idle-when-home-is-down",
        "a hotel's own team stands still whenever the travel agent's database does",
        "internals:_Answer._go",
        "self._failed.append(error)\n            return 0",
        "raise error",
        "tests/boundary/runtime/test_own_databases_cut_off.py"
        "::TestAway::test_while_home_is_down_the_mill_goes_on_with_what_it_has",
    ),
    Plant(
        "restored-and-forgotten",
        "after a backup is restored sagas wait for what was done long ago",
        "internals:FORWARD",
        "AND NOT over.known",
        "AND over.known",
        "tests/boundary/runtime/test_own_databases_relays.py"
        "::TestRelays::test_what_home_has_lost_comes_home_anew",
    ),
    Plant(
        "a-no-from-elsewhere-is-overtaken",
        "the hotel said no, and the trip is said to be booked",
        "internals:Arrival.handle",
        "closes=not each.parked, quiet=quiet",
        "closes=not each.parked, quiet=quiet and False",
        "tests/boundary/orchestration/test_settling.py"
        "::test_a_no_from_further_down_is_not_overtaken_by_all_being_settled",
    ),
    Plant(
        "parcels-without-turn",
        "seats are given away in another order than the inn gave them",
        "internals:Parcelling.write",
        "self.inbox.take_turn(unit)",
        "pass",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestOrder::test_who_publishes_there_keeps_others_from_it_until_its_commit",
    ),
    Plant(
        "parcels-as-they-began",
        "seats are given away in the order in which the inn began to give them",
        "internals:_DELIVERING",
        "THEN (SELECT clock_timestamp())",
        "THEN now()",
        "tests/boundary/runtime/test_own_databases_parked.py"
        "::TestOrder::test_what_is_published_there_comes_home_as_it_was_committed",
    ),
    Plant(
        "begun-elsewhere",
        "a saga is started in a database in which nobody looks for it",
        "boundary:OwnDatabases.refuse",
        "if url == engine.url != home().url:",
        "if url == home().url != engine.url:",
        "tests/boundary/runtime/test_own_databases_relays.py"
        "::TestProcesses::test_sagas_and_events_begin_at_home",
    ),
)
