"""Mistakes with whose an error is, and with what a handler leaves to the next one."""

from tests.mutants.plant import Plant

_CONSUMER = "internals/context_consumer.py"
_LEASED = "internals/leased.py"
_BLAMES = "tests/internals/test_blame.py"
_SETTINGS = "tests/internals/test_local_settings.py"
_EXTERNAL = "tests/boundary/django/test_django_external.py"

BLAMES = (
    Plant(
        "settings-of-the-next",
        "a handler sees another tenant's rows, since the one before it named that tenant",
        _CONSUMER,
        "                if unit.altered:\n",
        "                if unit.altered and alone:\n",
        f"{_SETTINGS}::TestBatch::test_the_next_delivery_does_not_see_it[set local]",
    ),
    Plant(
        "settings-in-the-pool",
        "a tenant that was set for the session is that of a later delivery, or of a web request",
        "internals/database.py",
        "elif self.unit.spoilt:",
        "elif self.unit.spoilt and self.unit.lost:",
        f"{_SETTINGS}::TestBatch::test_the_next_delivery_does_not_see_it[set for good]",
    ),
    Plant(
        "role-of-the-handler",
        "a delivery is settled with the role that its handler took, which may not do that",
        "internals/unit_of_work.py",
        "if self._settings is not None and not self._handling:",
        "if self._settings is not None and self._handling:",
        f"{_SETTINGS}::TestTheFrameworksOwnStatements"
        "::test_they_run_as_if_nothing_had_been_set[SET LOCAL ROLE {clerk}-False]",
    ),
    Plant(
        "commit-refused-asks-no-policy",
        "a call whose row breaks a foreign key at its commit is made again and again",
        _LEASED,
        "                again.note_failed(leased.failed(error, run.took))\n",
        "                again.fail(leased.delivery, error, Retry(attempts=99), attempts=1)\n",
        f"{_BLAMES}::TestRefusedAtTheCommit"
        "::test_under_a_lease_it_is_counted_and_nothing_is_called_again[True]",
        imports="from saga.retry import Retry",
    ),
    Plant(
        "commit-refused-blames-the-first",
        "a neighbour in the batch is parked for the foreign key that another one broke",
        "internals/blame.py",
        "        if len(hop.runs) == 1:\n",
        "        if hop.runs:\n",
        f"{_BLAMES}::TestRefusedAtTheCommit"
        "::test_the_culprit_is_found_and_its_neighbours_go_on_at_once",
    ),
    Plant(
        "slow-handler-is-nobodys",
        "a handler that is slower than the server allows runs again for ever",
        _CONSUMER,
        "        elif is_server_trouble(error) and not is_too_slow(error):\n",
        "        elif is_server_trouble(error):\n",
        f"{_BLAMES}::TestSlowHandlers::test_it_is_counted_and_named[False-after]",
    ),
    Plant(
        "external-writes-in-autocommit",
        "three failed attempts of a Django handler leave three rows",
        "boundary/django/reading_only.py",
        '_READ_ONLY = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"',
        '_READ_ONLY = "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"',
        f"{_EXTERNAL}::test_a_write_before_begin_is_refused[create]",
    ),
    Plant(
        "work-stays-open",
        "a thread of a handler that has ended publishes an event, which is lost without a word",
        "internals/work.py",
        "            self._closed = True\n",
        "            self._closed = self._session is not None\n",
        "tests/internals/test_work.py::TestClosed"
        "::test_it_is_refused_from_a_stored_reference[returned-publish]",
    ),
    Plant(
        "flush-leaves-sagas",
        "a test that places the same order as the one before it gets that one's saga",
        "boundary/django/emptying.py",
        '_EMPTIED = ("saga", "inbox", "outbox", "settling", "audit")',
        '_EMPTIED = ("inbox", "outbox", "settling", "audit")',
        "tests/boundary/django/test_django_testing.py"
        "::test_a_transaction_test_case_leaves_no_saga_to_the_next",
    ),
)
