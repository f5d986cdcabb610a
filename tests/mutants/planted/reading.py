"""Mistakes in what is declared, written and read, beside another release above all."""

from tests.mutants.plant import Plant

_JSON = "tests/saga/test_json_text.py"
_FUNCTIONS = "tests/saga/test_functions.py"
_HOP = "tests/internals/test_hop.py"
_ORCHESTRATOR = "tests/boundary/test_orchestrator.py"
_UNSUBSCRIBING = "tests/boundary/test_unsubscribing.py"

READING = (
    Plant(
        "partial-of-a-coroutine",
        "a handler whose body never runs is accepted, and its step counts as done",
        "saga/validation/functions.py",
        "        if isinstance(function, partial):\n            function = function.func\n",
        "        if isinstance(function, partial):\n            return\n",
        f"{_FUNCTIONS}::test_a_body_that_would_never_run_is_refused",
    ),
    Plant(
        "coroutine-returned",
        "a handler that returns a coroutine counts as done",
        "internals/context.py",
        "        if returned is not None:\n",
        "        if returned is None:\n",
        f"{_HOP}::TestUnread::test_a_body_that_did_not_run_is_a_failure_in_words",
    ),
    Plant(
        "far-deadline",
        "a deadline of 18,000 years is accepted, and no page shows the saga any more",
        "saga/validation/durations.py",
        "    if duration > LONGEST:\n",
        "    if duration > LONGEST and not duration:\n",
        f"{_FUNCTIONS}::TestTimes::test_one_that_is_meant_as_never_is_refused",
    ),
    Plant(
        "dotted-order",
        "a mistyped field orders nothing, and nobody is told",
        "internals/ordering_field.py",
        '    for part in path.split("."):\n',
        '    for part in path.split(".")[:1]:\n',
        "tests/internals/test_context.py::TestOrderedBy::"
        "test_what_is_no_field_orders_nothing_and_is_refused",
    ),
    Plant(
        "strict-reader",
        "a newer release adds a field, and all deliveries of the older one fail",
        "saga/json_text.py",
        'extra="ignore", by_alias=True',
        'extra="forbid", by_alias=True',
        f"{_JSON}::TestReading::test_what_a_newer_release_added_is_ignored_at_any_depth",
    ),
    Plant(
        "unread-is-failed",
        "what only another release can read is parked after some attempts",
        "internals/hop/handler_calls.py",
        "        elif isinstance(error, Unreadable):\n",
        "        elif isinstance(error, ZeroDivisionError):\n",
        f"{_HOP}::TestUnread::test_what_cannot_be_read_is_left_for_a_worker_that_can",
    ),
    Plant(
        "outcome-unread-is-parked",
        "an outcome that only another release can read makes the saga stuck",
        "boundary/orchestration/orchestrator.py",
        "        except UnreadableMessage as error:\n",
        "        except ZeroDivisionError as error:\n",
        f"{_ORCHESTRATOR}::TestAnotherRelease::"
        "test_an_outcome_that_cannot_be_read_waits_for_a_worker_that_can",
    ),
    Plant(
        "newer-data-lost",
        "an older worker saves a saga without what a newer one had put into its data",
        "boundary/orchestration/saga_rows.py",
        "    if state.unknown is None:\n",
        "    if state.unknown is None or state.consumed:\n",
        f"{_ORCHESTRATOR}::TestAnotherRelease::test_data_that_a_newer_release_added_is_never_lost",
    ),
    Plant(
        "renamed-step",
        "a saga at a step that was renamed parks its messages, and nobody says why",
        "boundary/orchestration/saga_rows.py",
        "        self._check_steps(saga, state)\n",
        "",
        f"{_ORCHESTRATOR}::TestAnotherRelease::test_a_step_that_was_renamed_without_a_new_version",
    ),
    Plant(
        "sets-in-any-order",
        "two processes write the same data differently, and the second start is a conflict",
        "saga/json_text.py",
        "    return sorted(parts, key=_sortable) if isinstance(value, Set) else parts\n",
        "    return parts\n",
        f"{_JSON}::test_equal_sets_are_written_alike_by_every_process",
    ),
    Plant(
        "new-field-conflicts",
        "after a deploy that added an optional field the same start is a conflict",
        "boundary/orchestration/start.py",
        "same = same or _same_data(saga, text, payload)",
        "same = same and _same_data(saga, text, payload)",
        "tests/boundary/test_starting.py::TestKey::"
        "test_data_that_is_the_same_to_the_class_of_today_is_no_conflict",
    ),
    Plant(
        "data-without-a-limit",
        "one saga's data grows without end, and with it each of its hops",
        "boundary/orchestration/folding.py",
        '        self._outbox.check_size(data, f"{self._saga}: the data after {message.kind}")\n',
        "",
        f"{_ORCHESTRATOR}::TestFault::test_data_that_grows_too_large_is_that_saga_s_trouble_alone",
    ),
    Plant(
        "phase-without-a-style",
        "`saga show` of a saga that waits is a traceback",
        "boundary/rendering/words.py",
        '    Phase.WAITING: "cyan",\n',
        "",
        "tests/boundary/test_totality.py::test_every_phase_is_shown",
    ),
    Plant(
        "retired-and-counted",
        "what a retired reaction had open is revoked, and the step waits for it for ever",
        "internals/store/unsubscribe.py",
        "frozenset(self._outbox.settling.close(unit, deliveries))",
        "frozenset[str]()",
        f"{_UNSUBSCRIBING}::TestRetired::test_steps_that_wait_until_all_is_settled_go_on",
    ),
    Plant(
        "fields-of-another-item",
        "an older worker saves a saga, and what a newer one knew of one item is another one's",
        "saga/unknown_fields.py",
        "    stored = _as_read(stored, read)\n",
        "    _as_read(stored, read)\n",
        "tests/saga/test_unknown_fields.py::test_what_is_in_a_set_keeps_its_own",
    ),
)
