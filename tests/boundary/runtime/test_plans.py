"""How Postgres runs the statements of a hop, whatever it believes of the tables' sizes."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from internals.remote.statements import remote_statements

#: Statements of a hop, and what each may scan, by which columns.
HOP = {
    "claim": {
        "inbox_due_idx: consumer due_at",
        "inbox_ordering_idx: ordering_key ordering_no",
        "outbox_pkey: id",
    },
    "claim_sagas": {"inbox_due_idx: consumer due_at", "outbox_pkey: id", "saga_pkey: id"},
    "hold_sagas": {"saga_pkey: id"},
    "note": {"inbox_pkey: message_id consumer"},
    "remember": {"inbox_pkey: message_id consumer"},
    "repeat": {"outbox_pkey: id"},
    "to_forward": {
        "inbox_due_idx: consumer due_at",
        "inbox_ordering_idx: ordering_key ordering_no",
        "outbox_pkey: id",
    },
    "begin_forwarding": {"inbox_pkey: message_id consumer"},
    "forward": {"inbox_pkey: message_id consumer", "outbox_causation_id_idx: causation_id"},
    "confirm": {"inbox_pkey: message_id consumer"},
    "forward_anew": {"inbox_due_idx: consumer", "inbox_pkey: message_id consumer"},
    "unexplained": {"inbox_due_idx: consumer due_at"},
    "explain": {"inbox_pkey: message_id consumer"},
    "lease": {"inbox_pkey: message_id consumer"},
    "hold_lease": {"inbox_pkey: message_id consumer"},
    "hold_leases": {"inbox_pkey: message_id consumer"},
    "lease_all": {"inbox_pkey: message_id consumer"},
    "renew": {"inbox_pkey: message_id consumer"},
    "sent_before": {"outbox_pkey: id"},
    "clear": {"inbox_pkey: message_id consumer"},
    "finish": {
        "inbox_pkey: message_id consumer",
        "inbox_ordering_idx: ordering_key ordering_no",
        "subscription_pkey: kind",
    },
    "finish_sagas": {
        "inbox_pkey: message_id consumer",
        "inbox_ordering_idx: ordering_key ordering_no",
        "saga_pkey: id",
        "subscription_pkey: kind",
    },
}

_SCAN = re.compile(
    r"(Seq Scan on \w+|Index (?:Only )?Scan(?: Backward)? using (\w+)|Bitmap Index Scan on (\w+))"
)
_BY = re.compile(r"\(([a-z_]+) (?:=|<|<=|>|>=) ")


@pytest.fixture(params=["empty", "some"])
def session(request: Any, schema: str, outside: psycopg.Connection[Any]) -> Iterator[Any]:
    """A session that plans as one does whose statement has run for a while."""
    if request.param == "some":
        outside.execute(
            """WITH n AS (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 2000) AS n),
            sagas AS (INSERT INTO saga (id, name, version, status, direction, data, steps, course,
                                        consumed)
                SELECT id, 'trip', 1, 'running', 'forward', '{}', '{}', '{}', 0 FROM n),
            sent AS (INSERT INTO outbox (id, kind, category, payload, saga_id, root_id, awaits)
                SELECT id, 'a.b', 'reply', '{}', id, id, '{}' FROM n)
            INSERT INTO inbox (message_id, consumer, saga_id, due_at, ring_at)
            SELECT id, 'saga.trip', id, now(), now() FROM n"""
        )
        outside.execute("ANALYZE saga, outbox, inbox")
    outside.execute("SET plan_cache_mode = force_generic_plan")
    yield outside
    outside.execute("RESET plan_cache_mode")


@pytest.mark.parametrize("name", HOP)
def test_no_statement_of_a_hop_reads_a_table_or_all_that_is_due(
    session: Any, schema: str, name: str
) -> None:
    found = set(_scans(session, getattr(remote_statements(schema), name)))
    found -= {"Seq Scan on subscription"}  # a handful of rows
    assert found <= HOP[name]


def _scans(session: Any, statement: str) -> Iterator[str]:
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    for place, name in enumerate(names, 1):
        statement = statement.replace(f"%({name})s", f"${place}")
    session.execute(f"PREPARE planned AS {statement}")
    try:
        plan = session.execute(f"EXPLAIN EXECUTE planned ({', '.join(['NULL'] * len(names))})")
        lines = [line for (line,) in plan.fetchall()]
        for line, next_ in zip(lines, [*lines[1:], ""], strict=True):
            for whole, one, other in _SCAN.findall(line):
                index = one or other
                by = _BY.findall(next_) if "Index Cond:" in next_ else []
                yield f"{index}: {' '.join(by)}" if index else whole
    finally:
        session.execute("DEALLOCATE planned")
