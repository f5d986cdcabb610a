"""Definitions: whether an application knows what the tables expect of it."""

from collections.abc import Iterator

from sqlalchemy import Connection

from boundary.doctor.finding import Finding, fine, note, wrong
from boundary.operator.query import query
from boundary.runtime import Runtime
from internals.unit_of_work import SqlAlchemyUnitOfWork

_SUBSCRIPTIONS = "SELECT kind, consumer FROM {schema}.subscription ORDER BY consumer, kind"

_VERSIONS = """
SELECT name, version, count(*) FROM {schema}.saga WHERE finished_at IS NULL
GROUP BY name, version ORDER BY name, version
"""


def check_definitions(connection: Connection, runtime: Runtime) -> Iterator[Finding]:
    """Compare the stored subscriptions and versions with what this application has.

    Consumers and sagas that it does not have at all may be another application's.
    """
    yield from _own_databases(runtime)
    schema = runtime.settings.db_schema
    contexts = {context.name: context for context in runtime.contexts}
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
            "add the handler back, or delete the row from the subscription table",
        )
    else:
        yield fine("subscriptions", f"{len(rows)} recorded, all handled")
    unknown = [
        f"version {version} of {name} ({count:,} unfinished)"
        for name, version, count in query(SqlAlchemyUnitOfWork(connection), schema, _VERSIONS)
        if name in runtime.sagas and version not in runtime.sagas[name]
    ]
    if unknown:
        yield wrong(
            "versions",
            f"this app does not know {', '.join(unknown)}",
            "give the old definition to the Runtime too until they are over",
        )
    else:
        yield fine("versions", "every unfinished saga's definition is known")


def _own_databases(runtime: Runtime) -> Iterator[Finding]:
    left_out = [
        f"{context.name} ({context.database})"
        for context in runtime.contexts
        if context.database is not None and context.database not in runtime.own_databases
    ]
    if left_out:
        found = f"contexts whose own database is not known here: {', '.join(left_out)}"
        yield note("own databases", found, "set SAGA_DATABASES, unless other workers have them")
