"""Own databases: those of contexts whose tables are not where the sagas' are.

Each is an ordinary database with the framework's tables in a schema of the same name.  Nothing
connects before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session

from boundary.server_urls import psycopg_url
from boundary.settings import Settings
from internals.context import Context
from internals.database.circuit_breaker import Reach
from internals.database.connections import Database, SqlAlchemyDatabase
from internals.database.engines import forget_in_forks, make_engine
from internals.once import once
from saga.errors import DefinitionError, NoTransaction


class OwnDatabases:
    """The databases of a runtime beside the one that has the sagas.

    Args:
        given: Engines or URLs, by name; they go before those of the settings.
        settings: The runtime's.
        execution_options: For engines that are made.
        opening: Makes of a name and its engine what opens hops' transactions there.

    Raises `DefinitionError` for a URL that is none of Postgres.
    """

    def __init__(
        self,
        given: Mapping[str, Engine | str],
        settings: Settings,
        execution_options: Mapping[str, Any],
        opening: Callable[[str, Engine], Database] = lambda _, engine: SqlAlchemyDatabase(engine),
    ) -> None:
        named = {name: url.get_secret_value() for name, url in settings.databases.items()}
        self._given = {name: _checked(name, where) for name, where in (named | dict(given)).items()}
        self._pool_size = settings.pool_size
        self._prepared_statements = settings.prepared_statements
        self._execution_options = dict(execution_options)
        self._opening = opening

    def __contains__(self, name: object) -> bool:
        return name in self._given

    def of(self, contexts: Sequence[Context]) -> dict[str, list[Context]]:
        """Return those of the contexts whose own database is known here, by the database."""
        found: dict[str, list[Context]] = {}
        for context in contexts:
            if context.database is not None and context.database in self:
                found.setdefault(context.database, []).append(context)
        return found

    @once
    def engines(self) -> Mapping[str, Engine]:
        """Their engines, by name."""
        made = {
            name: self._make(where) if isinstance(where, str) else where
            for name, where in self._given.items()
        }
        for engine in made.values():
            forget_in_forks(engine)
        return made

    @once
    def reached(self) -> Mapping[str, Reach]:
        """The same, for hops."""
        return {name: Reach(self._opening(name, engine)) for name, engine in self.engines.items()}

    def refuse(self, handle: Any, home: Callable[[], Engine]) -> None:
        """Raise `NoTransaction` for a connection to one of them: sagas are not kept there."""
        if not self._given:
            return
        sessions = isinstance(handle, Session | scoped_session)
        connection = handle.connection() if sessions else handle
        if not isinstance(connection, Connection):
            return
        url = connection.engine.url
        for name, engine in self.engines.items():
            if url == engine.url != home().url:
                raise NoTransaction(
                    f"this transaction is in the database {name!r}, and sagas and events begin in "
                    "the one that has the sagas' tables; a handler publishes with "
                    "work.publish(...)"
                )

    def close(self) -> None:
        """Close the connections of the engines that were made here."""
        for name, engine in self.__dict__.get("engines", {}).items():
            if isinstance(self._given[name], str):
                engine.dispose()

    def _make(self, url: str) -> Engine:
        return make_engine(
            url,
            pool_size=self._pool_size,
            prepared_statements=self._prepared_statements,
            execution_options=self._execution_options,
        )


def _checked(name: str, where: Engine | str) -> Engine | str:
    if not isinstance(where, str):
        return where
    try:
        return psycopg_url(where)
    except ValueError as error:
        raise DefinitionError(f"database {name!r}: {error}") from None
