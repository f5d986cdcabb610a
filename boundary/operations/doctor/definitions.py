"""Definitions: whether an application knows what the tables expect of it."""

from collections.abc import Iterator

from sqlalchemy import Connection

from boundary.operations.doctor.finding import Finding, Words, fine, note, wrong
from boundary.queries.query import query
from boundary.runtime import Runtime
from boundary.runtime.composition import wiring_of
from internals.database.unit_of_work import SqlAlchemyUnitOfWork

_SUBSCRIPTIONS = "SELECT kind, consumer FROM {schema}.subscription ORDER BY consumer, kind"

_VERSIONS = """
SELECT name, version, count(*) FROM {schema}.saga WHERE finished_at IS NULL
GROUP BY name, version ORDER BY name, version
"""

_STEPS = """
SELECT s.name, s.version, step.name, count(*)
FROM {schema}.saga AS s CROSS JOIN LATERAL json_object_keys(s.steps) AS step (name)
WHERE s.finished_at IS NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def check_definitions(connection: Connection, runtime: Runtime, words: Words) -> Iterator[Finding]:
    """Compare the stored subscriptions and versions with what this application has.

    Consumers and sagas that it does not have at all may be another application's.
    """
    yield from _own_databases(runtime)
    schema = runtime.settings.db_schema
    contexts = {context.name: context for context in wiring_of(runtime).contexts}
    rows = query(SqlAlchemyUnitOfWork(connection), schema, _SUBSCRIPTIONS)
    unhandled = [
        f"{kind} to {consumer}"
        for kind, consumer in rows
        if consumer in contexts and kind not in contexts[consumer].handlers
    ]
    if unhandled:
        yield wrong(
            "subscriptions",
            f"subscribed, and no handler here: {', '.join(unhandled)}",
            f"add the handler back, or end it with `{words.program} unsubscribe "
            f"{unhandled[0].partition(' to ')[2]} --reason WHY`",
        )
    else:
        yield fine("subscriptions", f"{len(rows)} recorded, all handled")
    unknown = [
        f"version {version} of {name} ({count:,} unfinished)"
        for name, version, count in query(SqlAlchemyUnitOfWork(connection), schema, _VERSIONS)
        if name in wiring_of(runtime).sagas and version not in wiring_of(runtime).sagas[name]
    ]
    lacking = list(_lacking(connection, runtime))
    if unknown:
        yield wrong(
            "versions",
            f"this app does not know {', '.join(unknown)}",
            "give the old definition to the Runtime too until they are over",
        )
    if lacking:
        yield wrong(
            "versions",
            "; ".join(lacking),
            "give the changed definition a new version, and the old one to the Runtime too",
        )
    if not (unknown or lacking):
        yield fine("versions", "every unfinished saga's definition is known")


def _lacking(connection: Connection, runtime: Runtime) -> Iterator[str]:
    """Steps that unfinished sagas have begun and this application's definition has not."""
    rows = query(SqlAlchemyUnitOfWork(connection), runtime.settings.db_schema, _STEPS)
    for name, version, step, count in rows:
        saga = wiring_of(runtime).sagas.get(name, {}).get(version)
        if saga is not None and all(known.name != step for known in saga):
            have = "1 unfinished saga has" if count == 1 else f"{count:,} unfinished sagas have"
            yield f"version {version} of {name} has no step {step!r}, which {have} begun"


def _own_databases(runtime: Runtime) -> Iterator[Finding]:
    left_out = [
        f"{context.name} ({context.database})"
        for context in wiring_of(runtime).contexts
        if context.database is not None and context.database not in wiring_of(runtime).own_databases
    ]
    if left_out:
        found = f"contexts whose own database is not known here: {', '.join(left_out)}"
        yield note("own databases", found, "set SAGA_DATABASES, unless other workers have them")
