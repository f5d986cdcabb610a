"""Schema: the framework's tables, brought by `manage.py migrate`.

Alembic alone knows the tables.  A Django migration runs it up to a revision on the same database,
through a connection of its own, so both ways work and in either order.
"""

from collections.abc import Callable
from typing import Any

from boundary.django.conf import database_alias, schema
from boundary.django.db.engine import engine_of
from boundary.migration import downgrade, migrate

#: The newest revision of Alembic's that a Django migration runs: one that is newer needs another.
HEAD = "0001"

_Run = Callable[[Any, Any], None]


def upgrade_to_head(_: Any, editor: Any) -> None:
    """Bring the tables to the newest version, where sagas and contexts have theirs."""
    alias = editor.connection.alias
    if _has_tables(alias):
        migrate(engine_of(alias), schema())


def downgrade_to(revision: str) -> _Run:
    """Return what takes the tables back to a revision, or away with ``base``."""

    def run(_: Any, editor: Any) -> None:
        alias = editor.connection.alias
        if _has_tables(alias):
            downgrade(engine_of(alias), schema(), revision)

    return run


def _has_tables(alias: str) -> bool:
    """Whether it is the database of the sagas, or one of a context's own."""
    from boundary.django.project import collect, own_aliases  # noqa: PLC0415 - apps are ready by now

    return alias == database_alias() or alias in own_aliases(collect()[1])
