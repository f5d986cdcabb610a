"""Mistakes in what is declared, written and read, beside another release above all."""

from tests.mutants.plant import Plant

_JSON = "tests/saga/test_json_text.py"
_FUNCTIONS = "tests/saga/validation/test_functions.py"
_UNSUBSCRIBING = "tests/boundary/operations/test_unsubscribe.py"

READING = (
    Plant(
        "partial-of-a-coroutine",
        "a handler whose body never runs is accepted, and its step counts as done",
        "saga:_parts",
        "function = function.func",
        "return",
        f"{_FUNCTIONS}::test_a_body_that_would_never_run_is_refused",
    ),
    Plant(
        "coroutine-returned",
        "a handler that returns a coroutine counts as done",
        "internals:Handler.run",
        "if returned is not None:",
        "if returned is None:",
        "tests/internals/hop/test_unhandled.py"
        "::TestUnread::test_a_body_that_did_not_run_is_a_failure_in_words",
    ),
    Plant(
        "far-deadline",
        "a deadline of 18,000 years is accepted, and no page shows the saga any more",
        "saga:check_not_too_long",
        "if duration > LONGEST:",
        "if duration > LONGEST and not duration:",
        f"{_FUNCTIONS}::TestTimes::test_one_that_is_meant_as_never_is_refused",
    ),
    Plant(
        "dotted-order",
        "a mistyped field orders nothing, and nobody is told",
        "internals:check_ordered_by",
        'for part in path.split("."):',
        'for part in path.split(".")[:1]:',
        "tests/internals/test_context.py::TestOrderedBy::"
        "test_what_is_no_field_orders_nothing_and_is_refused",
    ),
    Plant(
        "strict-reader",
        "a newer release adds a field, and all deliveries of the older one fail",
        "saga:read_json",
        'extra="ignore", by_alias=True',
        'extra="forbid", by_alias=True',
        f"{_JSON}::TestReading::test_what_a_newer_release_added_is_ignored_at_any_depth",
    ),
    Plant(
        "unread-is-failed",
        "what only another release can read is parked after some attempts",
        "internals:HandlerCalls.record",
        "elif isinstance(error, Unreadable):",
        "elif isinstance(error, ZeroDivisionError):",
        "tests/internals/hop/test_unhandled.py"
        "::TestUnread::test_what_cannot_be_read_is_left_for_a_worker_that_can",
    ),
    Plant(
        "outcome-unread-is-parked",
        "an outcome that only another release can read makes the saga stuck",
        "boundary:Orchestrator._fold",
        "except UnreadableMessage as error:",
        "except ZeroDivisionError as error:",
        "tests/boundary/orchestration/test_other_releases.py"
        "::TestAnotherRelease::test_an_outcome_that_cannot_be_read_waits_for_a_worker_that_can",
    ),
    Plant(
        "newer-data-lost",
        "an older worker saves a saga without what a newer one had put into its data",
        "boundary:data_to_json",
        "if state.unknown is None:",
        "if state.unknown is None or state.consumed:",
        "tests/boundary/orchestration/test_other_releases.py"
        "::TestAnotherRelease::test_data_that_a_newer_release_added_is_never_lost",
    ),
    Plant(
        "renamed-step",
        "a saga at a step that was renamed parks its messages, and nobody says why",
        "boundary:StoredSaga.state",
        "        self._check_steps(saga, state)\n",
        "",
        "tests/boundary/orchestration/test_other_releases.py"
        "::TestAnotherRelease::test_a_step_that_was_renamed_without_a_new_version",
    ),
    Plant(
        "sets-in-any-order",
        "two processes write the same data differently, and the second start is a conflict",
        "saga:_with_ordered_sets",
        "return sorted(parts, key=_sortable) if isinstance(value, Set) else parts",
        "return parts",
        f"{_JSON}::test_equal_sets_are_written_alike_by_every_process",
    ),
    Plant(
        "new-field-conflicts",
        "after a deploy that added an optional field the same start is a conflict",
        "boundary:Starter._started_before",
        "same = same or _same_data(saga, text, payload)",
        "same = same and _same_data(saga, text, payload)",
        "tests/boundary/orchestration/test_start_keys.py"
        "::TestKey::test_data_that_is_the_same_to_the_class_of_today_is_no_conflict",
    ),
    Plant(
        "data-without-a-limit",
        "one saga's data grows without end, and with it each of its hops",
        "boundary:Deciding.decide",
        '        self._outbox.check_size(data, f"{self._saga}: the data after {message.kind}")\n',
        "",
        "tests/boundary/orchestration/test_faults.py"
        "::TestFault::test_data_that_grows_too_large_is_that_saga_s_trouble_alone",
    ),
    Plant(
        "phase-without-a-style",
        "`saga show` of a saga that waits is a traceback",
        "boundary:PHASE_STYLES",
        '    Phase.WAITING: "cyan",\n',
        "",
        "tests/boundary/rendering/test_totality.py::test_every_phase_is_shown",
    ),
    Plant(
        "retired-and-counted",
        "what a retired reaction had open is revoked, and the step waits for it for ever",
        "internals:Retiring.revoke",
        "frozenset(self._outbox.open_deliveries.close(unit, deliveries))",
        "frozenset[str]()",
        f"{_UNSUBSCRIBING}::TestRetired::test_steps_that_wait_until_all_is_settled_go_on",
    ),
    Plant(
        "fields-of-another-item",
        "an older worker saves a saga, and what a newer one knew of one item is another one's",
        "saga:_merged_items",
        "stored = _as_read(stored, read)",
        "_as_read(stored, read)",
        "tests/saga/test_unknown_fields.py::test_what_is_in_a_set_keeps_its_own",
    ),
)
