"""Engine: SQLAlchemy on the database of an alias, for migrations and for what only reads.

Nothing that has to commit with Django's work may ever use it: its connections are its own.
"""

from typing import Any

import psycopg
from django.db import connections
from psycopg import sql
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.pool import NullPool

#: Connection parameters that make a connection Django's.
_DJANGOS = ("context", "cursor_factory")


def engine_of(alias: str) -> Engine:
    """Return an engine that connects as Django does: socket, service, options and role.

    Nothing connects before it is used, and a test database is followed where it goes.
    """

    def connect() -> psycopg.Connection[Any]:
        connection = connections[alias]
        parameters = {
            name: value
            for name, value in connection.get_connection_params().items()
            if name not in _DJANGOS
        }
        made = psycopg.connect(**parameters)
        role = connection.settings_dict["OPTIONS"].get("assume_role")
        if role:
            made.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            made.commit()
        return made

    # The URL is for messages only.
    given = connections.settings[alias]
    url = URL.create(
        "postgresql+psycopg",
        username=given.get("USER") or None,
        host=given.get("HOST") or None,
        port=int(given["PORT"]) if given.get("PORT") else None,
        database=str(given.get("NAME") or "") or None,
    )
    return create_engine(url, creator=connect, poolclass=NullPool)
