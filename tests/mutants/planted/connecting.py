"""Mistakes with connections: processes that stand still, locks that are held, sockets that are shared."""

from tests.mutants.plant import Plant

_CONNECTIONS = "tests/boundary/runtime/test_connections.py"

CONNECTIONS = (
    Plant(
        "frozen-for-ever",
        "a worker that is suspended keeps its deliveries and locks until somebody finds its session",
        "internals:Bounds._shorter_than",
        'settings.append(f"SET LOCAL {name} = {milliseconds}")',
        'settings.append(f"SET LOCAL {name} = 0")',
        f"{_CONNECTIONS}::test_its_transactions_are_bounded_and_leave_nothing_on_the_connection",
    ),
    Plant(
        "hosts-wait-for-ever",
        "a web request that cancels a saga hangs as long as a frozen worker has its row",
        "internals:shorter",
        "AND was::interval <= interval '{milliseconds} ms' THEN was ELSE '{milliseconds}' END, true) ",
        "OR true THEN was ELSE '{milliseconds}' END, true) ",
        "tests/internals/database/test_unit_of_work.py::TestWaitingAtMost::test_it_is_as_before_afterwards[0]",
    ),
    Plant(
        "host-s-wait-is-changed",
        "a statement of the host's own fails, since our wait for locks has stayed on its transaction",
        "internals:SqlAlchemyUnitOfWork.waiting_at_most",
        'self._control(f"{as_before(was)}; RELEASE SAVEPOINT saga_wait".encode())',
        'self._control(b"RELEASE SAVEPOINT saga_wait")',
        "tests/internals/database/test_unit_of_work.py::TestWaitingAtMost::test_it_is_as_before_afterwards[0]",
    ),
    Plant(
        "hop-never-gives-way",
        "every thread of a process waits for one ordering key, and its other contexts stand still",
        "internals:drain",
        "            gave_way()\n",
        "",
        "tests/internals/hop/test_drain.py"
        "::TestConflicts::test_a_hop_that_waited_in_vain_ends_the_turn_and_says_so",
    ),
    Plant(
        "read-only-for-ever",
        "after a failover a worker does nothing until it is restarted",
        "internals:SqlAlchemyUnitOfWork.run",
        "self.connection.connection.invalidate(error, soft=True)\n"
        "                self.stale = True",
        "self.stale = False",
        f"{_CONNECTIONS}::TestStale::test_a_host_gets_the_error_and_then_another_one",
    ),
    Plant(
        "forks-share-sockets",
        "web processes that were forked after the first start answer each other's queries",
        "internals:_forget",
        "engine.dispose(close=False)",
        "_ = engine",
        f"{_CONNECTIONS}::test_a_fork_begins_with_connections_of_its_own",
    ),
    Plant(
        "orphans-go-on",
        "the release of yesterday goes on handling after its parent was killed",
        "boundary:_watch",
        "while os.getppid() in expected:",
        "while expected:",
        "tests/boundary/doorbell/test_orphans.py::test_they_end_when_their_parent_is_killed[forked]",
    ),
)
