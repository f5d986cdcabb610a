"""Session: what every command works with (`Desk`): the application, or the settings alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from boundary.cli.errors import Complaint
from boundary.cli.load_app import APP_VARIABLE, load_application, settings_runtime
from boundary.operations.doctor import database_problem, shown_url
from boundary.runtime import Runtime
from boundary.runtime.composition import wiring_of
from internals.database.connections import reading
from internals.database.unit_of_work import SqlAlchemyUnitOfWork, UnitOfWork

#: SQLSTATEs that mean the tables are not there, or are those of another release.
_UNMIGRATED = frozenset({"42P01", "42703", "3F000"})

_DATABASE_URL = "it is postgresql://user:password@host:port/database, special characters as %XX"
_REDIS_URL = "it is redis://:password@host:port/0, special characters as %XX"


class Desk:
    """Opens what a command needs, on first use, and closes it.

    Args:
        app: ``module:attribute`` of the application, if one was given.
    """

    #: How the next command begins.
    program = "saga"
    #: Where the database is configured.
    database_setting = "SAGA_DATABASE_URL"
    #: Where Redis is.
    redis_setting = "SAGA_REDIS_URL"

    def __init__(self, app: str | None) -> None:
        self.app = app

    @property
    def acting_program(self) -> str:
        """How the next command begins, if it needs the application."""
        if os.environ.get(APP_VARIABLE):
            return self.program
        return f"{self.program} --app {self.app or 'MODULE:ATTRIBUTE'}"

    @cached_property
    def runtime(self) -> Runtime:
        """The application's Runtime if one was given, else one of the settings alone."""
        # A host that drops packets would let a command hang for minutes.
        os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
        return load_application(self.app) if self.app else settings_runtime()

    @cached_property
    def engine(self) -> Engine:
        """The Runtime's engine; raises `Complaint` for a URL that cannot be read."""
        try:
            return self.runtime.engine
        except (ArgumentError, ValueError) as error:
            raise Complaint(f"SAGA_DATABASE_URL cannot be read; {_DATABASE_URL}") from error

    def check_redis_url(self) -> None:
        """Raise `Complaint` for a URL that cannot be read, before anything is written."""
        try:
            _ = wiring_of(self.runtime).broker
        except ValueError as error:
            raise Complaint(f"SAGA_REDIS_URL cannot be read; {_REDIS_URL}") from error

    @property
    def schema(self) -> str:
        """The Postgres schema of the framework's tables."""
        return self.runtime.settings.db_schema

    def require_app(self, command: str) -> str:
        """Return the application's name; raises `Complaint` if none was given."""
        if not self.app:
            raise Complaint(
                f"`saga {command}` needs your application: saga --app module:attribute {command}, "
                f"or set {APP_VARIABLE}"
            )
        return self.app

    def prepare_to_act(self, command: str) -> str:
        """Return the application's name, once it is known that the command can begin.

        Raises `Complaint` if there is no application or the URL of a server cannot be read.
        """
        app = self.require_app(command)
        _ = self.engine
        self.check_redis_url()
        return app

    @contextmanager
    def reading(self) -> Iterator[UnitOfWork]:
        """A read-only transaction whose statements see one moment."""
        with self.exporting() as connection:
            yield SqlAlchemyUnitOfWork(connection)

    @contextmanager
    def exporting(self) -> Iterator[Connection]:
        """The same as a connection, for what is too large to be read at once."""
        with self.database_errors(), reading(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """A transaction that is committed at the end: what the Runtime joins."""
        with self.database_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def database_errors(self) -> Iterator[None]:
        """Turn what the database raises into a `Complaint` that names it and the way out."""
        try:
            yield
        except Exception as error:
            complaint = self._database_complaint(error)
            if complaint is None:
                raise
            raise complaint from error

    def close(self) -> None:
        """Close connections and leave the embedded servers."""
        if "runtime" in self.__dict__:
            self.runtime.close()

    def _database_complaint(self, error: Exception) -> Complaint | None:
        # SQLAlchemy and Django wrap the driver's errors.
        wrapped = error.__cause__
        cause = wrapped if isinstance(wrapped, psycopg.Error) else error
        state = getattr(cause, "sqlstate", None)
        if not isinstance(cause, SQLAlchemyError | psycopg.Error):
            return None
        where = shown_url(self.engine.url.render_as_string())
        if state in _UNMIGRATED:
            return Complaint(
                f"the tables are not in schema {self.schema!r} of {where}, or are older than "
                f"this release: run `{self.program} migrate`",
                1,
            )
        point = database_problem(error)
        if state is None or state.startswith(("08", "28", "3D", "53", "57P")):
            return Complaint(
                f"Postgres at {where} cannot be used: {point}; see {self.database_setting}", 1
            )
        return Complaint(f"Postgres at {where} refused: {point}", 1)
