"""Statements: all SQL of the framework's writes, static, whatever cursor runs it.

Each module of this package has the SQL of one concern; `Statements` lists all of it.  Contexts with a
database of their own have further statements (`internals.remote.statements`).

Placeholders are ``%(name)s``, which SQLAlchemy's `exec_driver_sql`, Django's cursor and psycopg
all understand.  A batch travels as one JSON text (see `internals.store.json_rows`), so that it costs the
same number of statements as one message.
"""

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import TypeVar

from internals.store.sql import causal as causal_sql
from internals.store.sql import giving_up as giving_up_sql
from internals.store.sql import hop as hop_sql
from internals.store.sql import leases as leases_sql
from internals.store.sql import operator_actions as operator_actions_sql
from internals.store.sql import ordering as ordering_sql
from internals.store.sql import relay as relay_sql
from internals.store.sql import sagas as sagas_sql
from saga.errors import DefinitionError

_IN_STATES = """
SELECT message_id FROM {schema}.inbox
WHERE message_id = ANY (%(id)s::uuid[]) AND state = ANY (%(state)s)
"""

# Held until the commit: so parcels get their times in the order of commits.
_TAKE_TURN = "SELECT pg_advisory_xact_lock(%(lock)s)"

_SUBSCRIBE = """
INSERT INTO {schema}.subscription AS s (kind, consumer, ordered_by)
SELECT * FROM unnest(%(kind)s::text[], %(consumer)s::text[], %(ordered_by)s::text[])
ORDER BY 1, 2  -- so that workers that boot at once cannot wait for each other
ON CONFLICT (kind, consumer) DO UPDATE SET ordered_by = excluded.ordered_by
WHERE s.ordered_by IS DISTINCT FROM excluded.ordered_by
"""


def with_messages(statement: str) -> str:
    """Return a statement with the columns of a claimed delivery put in."""
    return statement.replace("{claimed}", hop_sql.CLAIMED).replace("{message}", hop_sql.MESSAGE)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for one schema."""

    claim: str = hop_sql.CLAIM
    claim_sagas: str = hop_sql.CLAIM_SAGAS
    send: str = hop_sql.SEND
    repeat: str = hop_sql.REPEAT
    sent_before: str = hop_sql.SENT_BEFORE
    holder: str = hop_sql.HOLDER
    settle: str = hop_sql.SETTLE
    finish: str = hop_sql.FINISH
    finish_sagas: str = hop_sql.FINISH_SAGAS
    lease: str = leases_sql.LEASE
    give_up: str = giving_up_sql.GIVE_UP
    look_given_up: str = giving_up_sql.LOOK_GIVEN_UP
    given_up: str = giving_up_sql.GIVEN_UP
    hold_lease: str = leases_sql.HOLD_LEASE
    reopen: str = leases_sql.REOPEN
    hold_leases: str = leases_sql.HOLD_LEASES
    hold_claimed: str = leases_sql.HOLD_CLAIMED
    lease_all: str = leases_sql.LEASE_ALL
    renew: str = leases_sql.RENEW
    last_error: str = leases_sql.LAST_ERROR
    revoke: str = giving_up_sql.REVOKE
    clear: str = giving_up_sql.CLEAR
    retry_parked: str = operator_actions_sql.RETRY_PARKED
    drop_parked: str = operator_actions_sql.DROP_PARKED
    lock_saga: str = operator_actions_sql.LOCK_SAGA
    hold_sagas: str = sagas_sql.HOLD_SAGAS
    record_act: str = operator_actions_sql.RECORD_ACT
    audit: str = operator_actions_sql.AUDIT
    save_sagas: str = hop_sql.SAVE_SAGAS
    insert_sagas: str = sagas_sql.INSERT_SAGAS
    started_before: str = sagas_sql.STARTED_BEFORE
    in_states: str = _IN_STATES
    existing_sagas: str = sagas_sql.EXISTING_SAGAS
    history: str = sagas_sql.HISTORY
    ring: str = relay_sql.RING
    due: str = relay_sql.DUE
    subscribe: str = _SUBSCRIBE
    wake: str = ordering_sql.WAKE
    held_up: str = ordering_sql.HELD_UP
    count: str = causal_sql.COUNT
    counted: str = causal_sql.COUNTED
    undone: str = causal_sql.UNDONE
    mark_undone: str = causal_sql.MARK_UNDONE
    begin_undo: str = causal_sql.BEGIN_UNDO
    take_back: str = causal_sql.TAKE_BACK
    order_undo: str = causal_sql.ORDER_UNDO
    recount: str = causal_sql.RECOUNT
    recall: str = giving_up_sql.RECALL
    take_turn: str = _TAKE_TURN


S = TypeVar("S", bound=Statements)


@cache
def statements(schema: str) -> Statements:
    """Return the statements for tables in this schema.

    Raises `DefinitionError` for a name that is not a plain lower-case identifier.
    """
    return rendered(Statements, schema)


def rendered(kind: type[S], schema: str) -> S:
    """Return statements of this kind with the schema's name put in.

    It is the only text that ever becomes part of a statement.  Raises as `statements` does.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise DefinitionError(
            f"schema {schema!r} must be a lower-case identifier of at most 63 characters"
        )
    return kind(**{f.name: f.default.format(schema=schema) for f in fields(kind)})  # type: ignore[union-attr]
