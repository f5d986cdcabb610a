"""Statements of contexts that have a database of their own, beside those of every consumer."""

from dataclasses import dataclass
from functools import cache

from internals.remote import sql
from internals.store.sql import Statements, rendered, with_messages


@dataclass(frozen=True, slots=True)
class RemoteStatements(Statements):
    """The statements for one schema, which is called the same in both databases."""

    to_forward: str = with_messages(sql.TO_FORWARD)
    begin_forwarding: str = sql.BEGIN_FORWARDING
    forward: str = sql.FORWARD
    confirm: str = sql.CONFIRM
    hasten: str = sql.HASTEN
    unexplained: str = sql.UNEXPLAINED
    explain: str = sql.EXPLAIN
    give_back: str = sql.GIVE_BACK
    forward_again: str = sql.FORWARD_AGAIN
    forward_anew: str = sql.FORWARD_ANEW
    started: str = sql.STARTED
    awaited: str = with_messages(sql.AWAITED)
    at_home: str = with_messages(sql.AT_HOME)
    note: str = sql.NOTE
    untouched: str = sql.UNTOUCHED
    remember: str = sql.REMEMBER


@cache
def remote_statements(schema: str) -> RemoteStatements:
    """Return the statements for tables in this schema; raises as `statements` does."""
    return rendered(RemoteStatements, schema)
