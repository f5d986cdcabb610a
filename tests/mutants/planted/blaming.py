"""Mistakes with whose an error is, and with what a handler leaves to the next one."""

from tests.mutants.plant import Plant

_BLAMES = "tests/internals/hop/test_failure_isolation.py"
_SETTINGS = "tests/internals/database/test_local_settings.py"
_EXTERNAL = "tests/boundary/django/test_external.py"

BLAMES = (
    Plant(
        "settings-of-the-next",
        "a handler sees another tenant's rows, since the one before it named that tenant",
        "internals:ContextConsumer.handle",
        "if unit.altered:",
        "if unit.altered and alone:",
        f"{_SETTINGS}::TestBatch::test_the_next_delivery_does_not_see_it[set local]",
    ),
    Plant(
        "settings-in-the-pool",
        "a tenant that was set for the session is that of a later delivery, or of a web request",
        "internals:_OpenedConnection.roll_back",
        "elif self.unit.spoilt:",
        "elif self.unit.spoilt and self.unit.lost:",
        f"{_SETTINGS}::TestBatch::test_the_next_delivery_does_not_see_it[set for good]",
    ),
    Plant(
        "role-of-the-handler",
        "a delivery is settled with the role that its handler took, which may not do that",
        "internals:SqlAlchemyUnitOfWork.run",
        "if self._settings is not None and not self._handling:",
        "if self._settings is not None and self._handling:",
        f"{_SETTINGS}::TestTheFrameworksOwnStatements"
        "::test_they_run_as_if_nothing_had_been_set[SET LOCAL ROLE {clerk}-False]",
    ),
    Plant(
        "commit-refused-asks-no-policy",
        "a call whose row breaks a foreign key at its commit is made again and again",
        "internals:LeasedRunner._settle_returned",
        "gives_way=not refused)",
        "gives_way=True)",
        f"{_BLAMES}::TestRefusedAtTheCommit"
        "::test_under_a_lease_it_is_counted_and_nothing_is_called_again[True]",
    ),
    Plant(
        "commit-refused-blames-the-first",
        "a neighbour in the batch is parked for the foreign key that another one broke",
        "internals:FailureIsolation._among",
        "if len(runs) == 1:",
        "if runs:",
        f"{_BLAMES}::TestRefusedAtTheCommit"
        "::test_the_culprit_is_found_and_its_neighbours_go_on_at_once",
    ),
    Plant(
        "second-culprit-forgets-the-first",
        "two rows that break a foreign key run in turn for ever, and nothing behind them is done",
        "internals:ContextConsumer._refused",
        "self._undone.remember({**self._undone.known, attempt: found})",
        "self._undone.remember({attempt: found})",
        f"{_BLAMES}::TestRefusedAtTheCommit::test_two_that_come_one_after_the_other_run_once_each",
    ),
    Plant(
        "held-key-keeps-all",
        "one event whose key a host holds keeps everything of its context for as long",
        "internals:FailureIsolation.find",
        "return self._among(hop.settled)",
        "return False, None",
        "tests/boundary/runtime/test_lock_waits.py"
        "::test_a_hop_gives_way_to_a_key_that_is_held_and_others_do_not_wait_for_it",
    ),
    Plant(
        "slow-handler-is-nobodys",
        "a handler that is slower than the server allows runs again for ever",
        "internals:Outcome.raised",
        "is_server_trouble(error) and not is_too_slow(error)\n",
        "is_server_trouble(error)\n",
        f"{_BLAMES}::TestSlowHandlers::test_it_is_counted_and_named[False-after]",
    ),
    Plant(
        "external-writes-in-autocommit",
        "three failed attempts of a Django handler leave three rows",
        "boundary:_READ_ONLY",
        '_READ_ONLY = b"SET LOCAL transaction_read_only = on"',
        '_READ_ONLY = b"SET LOCAL transaction_read_only = off"',
        f"{_EXTERNAL}::test_a_write_before_begin_is_refused[create]",
    ),
    Plant(
        "writes-past-the-delivery",
        "a handler's event loop writes on a connection of its own, once for each attempt",
        "boundary:DjangoUnitOfWork.handling",
        "with self.savepoint(), writing_in_one():",
        "with self.savepoint():",
        "tests/boundary/django/test_hop_connections.py"
        "::test_a_write_on_another_connection_is_refused[event loop]",
    ),
    Plant(
        "refusal-is-nobodys",
        "a Django handler that writes too early is run again for ever, and nothing is counted",
        "internals:chain",
        "link = None if isinstance(link, NoTransaction) else link.__cause__",
        "link = link.__cause__",
        f"{_EXTERNAL}::test_nor_once_it_has_begun[driver]",
    ),
    Plant(
        "session-locks-stay",
        "a lock that a handler took for its session is held for as long as the pool lives",
        "internals:_WORDS",
        '_WORDS = ("set", "discard", "temp", "listen", "prepare", "load", "cursor", "advisory_lock")',
        '_WORDS = ("set", "discard", "temp", "listen", "prepare", "load", "cursor")',
        "tests/internals/database/test_local_settings.py::TestBatch"
        "::test_a_lock_of_the_session_ends_with_the_delivery[pg_advisory_lock]",
    ),
    Plant(
        "read-only-is-nobodys",
        "a handler that makes its transaction read-only has the pool thrown away, for ever",
        "internals:is_own",
        "return altered and is_read_only(error)",
        "return altered and False",
        "tests/internals/database/test_local_settings.py::TestTheFrameworksOwnStatements"
        "::test_what_it_may_not_write_itself_is_its_own_failure_too",
    ),
    Plant(
        "work-stays-open",
        "a thread of a handler that has ended publishes an event, which is lost without a word",
        "internals:HandlerTransaction._close",
        "self._closed = True",
        "self._closed = self._session is not None",
        "tests/internals/test_work_ids.py"
        "::TestClosed::test_it_is_refused_from_a_stored_reference[returned-publish]",
    ),
    Plant(
        "flush-leaves-sagas",
        "a test that places the same order as the one before it gets that one's saga",
        "boundary:_EMPTIED",
        '_EMPTIED = ("saga", "inbox", "outbox", "settling", "audit")',
        '_EMPTIED = ("inbox", "outbox", "settling", "audit")',
        "tests/boundary/django/test_testing.py"
        "::test_a_transaction_test_case_leaves_no_saga_to_the_next",
    ),
)
