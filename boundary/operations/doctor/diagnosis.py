"""Diagnosis: all checks in the order in which they help."""

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from boundary.embedded import EmbeddedServersError
from boundary.operations.doctor.definitions import check_definitions
from boundary.operations.doctor.doorbells import check_redis
from boundary.operations.doctor.error_text import database_problem, shown_url
from boundary.operations.doctor.finding import Finding, Verdict, Words, wrong
from boundary.operations.doctor.ids import check_ids
from boundary.operations.doctor.servers import check_clock, check_postgres, check_schema
from boundary.operations.doctor.sessions import check_idle_sessions, check_pooler, check_role
from boundary.operations.doctor.store import (
    check_backfills,
    check_left,
    check_parked,
    check_pending,
    check_running,
    check_stuck,
    check_yielding,
)
from boundary.runtime import Runtime
from boundary.runtime.composition import wiring_of

_PLAIN = Words()


def diagnose(runtime: Runtime, *, application: bool, words: Words = _PLAIN) -> list[Finding]:
    """Look at the servers, the tables and the definitions; changes nothing, raises for no server.

    Args:
        runtime: Where the servers are.
        application: Whether it is a whole application, whose contexts and sagas are to be
            compared with the tables, or just the settings.
        words: For the ways out.
    """
    return [
        *_database(runtime, application, words),
        *_own_databases(runtime, words),
        *_redis(runtime, application, words),
    ]


def _database(runtime: Runtime, application: bool, words: Words) -> Iterator[Finding]:
    try:
        where = shown_url(runtime.engine.url.render_as_string())
    except EmbeddedServersError as error:
        yield wrong("postgres", str(error).rstrip("."), f"or set {words.database}")
        return
    schema = runtime.settings.db_schema
    try:
        with runtime.engine.connect() as connection:
            yield from check_postgres(connection, where)
            yield from check_role(connection, schema, runtime.settings.pool_size, words)
            yield check_pooler(connection)
            yield check_clock(connection)
            tables = check_schema(connection, schema, words)
            yield tables
            if tables.verdict is Verdict.WRONG:
                return
            yield check_idle_sessions(connection, schema)
            yield check_stuck(connection, schema, words)
            yield check_parked(connection, schema, words)
            yield check_ids(connection, schema, words)
            yield check_left(connection, schema)
            yield check_backfills(connection, schema, words)
            yield check_running(connection, schema)
            yield check_yielding(connection, schema, words)
            here = list(wiring_of(runtime).consumers) if application else None
            yield from check_pending(connection, schema, here, words)
            if application:
                yield from check_definitions(connection, runtime, words)
    except SQLAlchemyError as error:
        found = f"{where} does not answer: {database_problem(error)}"
        yield wrong("postgres", found, f"see {words.database}")


def _own_databases(runtime: Runtime, words: Words) -> Iterator[Finding]:
    """Look at the databases of contexts that have one of their own; their checks are named so."""
    for name, engine in runtime.own_engines.items():
        for finding in _own_database(runtime.settings.db_schema, engine, words):
            yield replace(finding, check=f"{finding.check} of {name}")


def _own_database(schema: str, engine: Engine, words: Words) -> Iterator[Finding]:
    where = shown_url(engine.url.render_as_string())
    try:
        with engine.connect() as connection:
            yield from check_postgres(connection, where)
            yield check_clock(connection)
            tables = check_schema(connection, schema, words)
            yield tables
            if tables.verdict is not Verdict.WRONG:
                # What is parked there is parked at home, where it is retried.
                yield from check_pending(connection, schema, None, words)
                yield check_running(connection, schema)
                yield check_yielding(connection, schema, words)
    except SQLAlchemyError as error:
        found = f"{where} does not answer: {database_problem(error)}"
        yield wrong("postgres", found, "what goes there waits until it does")


def _redis(runtime: Runtime, application: bool, words: Words) -> Iterator[Finding]:
    try:
        url = wiring_of(runtime).servers.redis_url
    except EmbeddedServersError as error:
        yield wrong("redis", str(error).rstrip("."), f"or set {words.redis}")
        return
    consumers = list(wiring_of(runtime).consumers) if application else []
    yield from check_redis(url, runtime.settings.namespace, consumers, words)
