"""No commit of the framework can escape the failpoints."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from internals.database.commit_points import Boundary, transaction, watch
from internals.database.connections import SqlAlchemyDatabase
from tests.chaos.failpoints import APART, FREEZES, KINDS, PASSED_IN, name, strike
from tests.chaos.profiles import PROFILES
from tests.chaos.tally import Tally

ROOT = Path(__file__).parents[2]

#: Calls that open or end a transaction, or do without one.
_COMMITTING = frozenset({"commit", "begin", "begin_nested", "atomic", "set_autocommit"})

#: Where such a call is none of the framework's commits, and why.
ALLOWED = {
    ("internals/database/commit_points.py", "begin"): "the one place",
    ("internals/database/commit_points.py", "commit"): "the one place",
    ("internals/database/connections.py", "begin"): "what that opens",
    ("internals/database/connections.py", "commit"): "what that commits",
    ("internals/hop/lease.py", "begin"): "through an OpenTransaction, at its boundary",
    (
        "internals/hop/leased_transaction.py",
        "begin",
    ): "the same, of a handler that begins it itself",
    ("internals/hop/lease.py", "commit"): "through an OpenTransaction, at its boundary",
    ("internals/remote/forwarding.py", "begin"): "through an OpenTransaction, at its boundary",
    ("internals/remote/forwarding.py", "commit"): "through an OpenTransaction, at its boundary",
    ("internals/database/after_commit.py", "commit"): "a host's commit, after which doorbells ring",
    ("internals/database/after_commit.py", "COMMIT"): "the name of that, as the driver has it",
    ("boundary/django/db/connections.py", "begin"): "the first statement of what that opens",
    ("boundary/django/db/connections.py", "atomic"): "what that opens, in Django; and a read",
    ("boundary/django/db/unit_of_work.py", "atomic"): "a savepoint",
    ("boundary/django/db/unit_of_work.py", "begin"): "a handler's run begins, and no transaction",
    (
        "internals/database/unit_of_work.py",
        "begin",
    ): "a handler's run begins; and the first of a savepoint",
    ("internals/hop/context_consumer.py", "begin"): "a hop begins, and no transaction",
    ("boundary/django/db/write_guard.py", "atomic"): "a savepoint that only reads",
    ("boundary/django/db/flush.py", "atomic"): "`manage.py flush`, as Django does it",
    ("boundary/django/session.py", "atomic"): "`manage.py saga start` is a host, as the next",
    ("boundary/django/db/engine.py", "commit"): "a session's role, before it is used",
    ("boundary/flask.py", "commit"): "releases the savepoint of a handler's session",
    ("boundary/cli/session.py", "begin"): "`saga start` is a host, which commits its own work",
    (
        "internals/database/lock_waits.py",
        "autocommit",
    ): "asks the server whether a session waits for a lock",
    (
        "internals/handler_transaction.py",
        "commit",
    ): "releases the savepoint of a handler's ORM session",
    ("boundary/bridges/kafka.py", "commit"): "the offsets of a consumer group, not the database",
    ("boundary/embedded/postgres.py", "autocommit"): "creates the database of a server of its own",
}


def test_every_boundary_has_failpoints_in_a_run() -> None:
    assert set(PASSED_IN) == set(Boundary), "say in failpoints.PASSED_IN where a run passes it"
    for profile in ("commit", "all"):
        for boundary in Boundary:
            struck = PROFILES[profile].apart() if boundary in APART else PROFILES[profile]
            assert {name(kind, boundary) for kind in KINDS} <= struck.faults


def test_processes_are_frozen_at_every_boundary_in_a_run() -> None:
    for boundary in Boundary:
        struck = PROFILES["frozen"].apart() if boundary in APART else PROFILES["frozen"]
        assert {name(kind, boundary) for kind in FREEZES} <= struck.faults


def test_nothing_else_in_the_product_commits() -> None:
    found = {
        (str(path.relative_to(ROOT)), what)
        for package in ("saga", "internals", "boundary")
        for path in sorted((ROOT / package).rglob("*.py"))
        for what in _commits(ast.parse(path.read_text()))
    }
    assert found - set(ALLOWED) == set(), (
        "commit through internals.database.commit_points.transaction"
    )
    assert set(ALLOWED) <= found, "an exception that is not needed any more"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("engine.begin()", {"begin"}),
        ("session.commit()", {"commit"}),
        ("connect(url, autocommit=True)", {"autocommit"}),
        ("engine.execution_options(isolation_level='AUTOCOMMIT')", {"autocommit"}),
        ("cursor.execute('COMMIT')", {"COMMIT"}),
        ("with transaction(engine, boundary): pass", set()),
    ],
)
def test_what_counts_as_committing(source: str, found: set[str]) -> None:
    assert set(_commits(ast.parse(source))) == found


def test_a_failpoint_is_counted_and_looks_like_a_lost_connection(tmp_path: Path) -> None:
    from internals.database.errors import is_transient

    tally = Tally(tmp_path)
    with pytest.raises(Exception, match="closed the connection") as raised:
        strike("error_after", Boundary.HOP, tmp_path, tally)
    assert is_transient(raised.value)
    assert tally.read() == {"error_after_hop": 1}


def test_watching_is_told_before_and_after(engine: Engine) -> None:
    seen: list[tuple[Boundary, str]] = []
    watch(lambda boundary, moment: seen.append((boundary, moment)))
    try:
        with transaction(SqlAlchemyDatabase(engine), Boundary.HOP):
            assert seen == []
    finally:
        watch(None)
    assert seen == [(Boundary.HOP, "before"), (Boundary.HOP, "after")]


def _commits(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in _COMMITTING:
            yield function.attr
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if (keyword.arg, value) in (("autocommit", True), ("isolation_level", "AUTOCOMMIT")):
                yield "autocommit"
        for argument in node.args:
            text = argument.value if isinstance(argument, ast.Constant) else None
            if isinstance(text, str) and text.strip().upper().split(None, 1)[:1] == ["COMMIT"]:
                yield "COMMIT"
