"""Own databases: those of contexts whose tables are not where the sagas' are.

Each is an ordinary database with the framework's tables in a schema of the same name.  Nothing
connects before it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.orm import Session, scoped_session

from boundary.settings import Settings, psycopg_url
from internals.context import Context
from internals.database import Database, SqlAlchemyDatabase
from internals.reach import Reach
from saga.errors import DefinitionError, NoTransaction

#: For engines that are made here, unless the URL says otherwise: a server that does not answer
#: must not keep the threads of a process for minutes.
_PATIENCE: Mapping[str, Any] = {"connect_timeout": 5, "tcp_user_timeout": 10_000}


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

    @cached_property
    def engines(self) -> Mapping[str, Engine]:
        """Their engines, by name."""
        return {
            name: self._make(where) if isinstance(where, str) else where
            for name, where in self._given.items()
        }

    @cached_property
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
        asked = make_url(url).query
        return create_engine(
            url,
            pool_size=self._pool_size,
            max_overflow=10,
            connect_args={k: v for k, v in _PATIENCE.items() if k not in asked},
            execution_options=self._execution_options,
        )


def _checked(name: str, where: Engine | str) -> Engine | str:
    if not isinstance(where, str):
        return where
    try:
        return psycopg_url(where)
    except ValueError as error:
        raise DefinitionError(f"database {name!r}: {error}") from None
