"""Flask: sagas in an application, whose handlers run in its context.

Everything is kept with the application, so that two of them in one process share nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import click
from flask import Flask, current_app
from flask.cli import ScriptInfo
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine

from boundary.cli import main
from boundary.cli.session import Desk
from boundary.orchestration.operator_actions import Acted
from boundary.runtime import Runtime
from boundary.runtime.saga_handle import SagaHandle
from boundary.settings import Settings
from internals.context import Context
from internals.once import once
from internals.work import Around, Work, nothing_around
from saga.definition import Saga
from saga.errors import DefinitionError, NoTransaction
from saga.messages import Event

D = TypeVar("D", bound=BaseModel)

_EXTENSION = "saga"
#: What a worker process imports; it finds the application as the `flask` command does.
_WORKER_APP = "boundary.flask:worker_runtime"


class SagaExtension:
    """The Flask extension: sagas in an application, whose handlers run in its context.

    Args:
        app: The application, or None for `init_app` later.
        sagas: The definitions.
        contexts: The bounded contexts whose handlers its workers run.
        db: Its Flask-SQLAlchemy, if it has one: sagas start in its session's transaction, and
            handlers write with it in theirs.

    The configuration is in ``SAGA_…`` keys, as in the environment: ``SAGA_REDIS_URL``,
    ``SAGA_SCHEMA`` and so on; what is not there is read from the environment.

    Example:
        ```python
        from flask import Flask
        from pydantic import BaseModel

        from boundary.flask import SagaExtension
        from internals import Context
        from saga import Command, Saga, Step

        class Order(BaseModel):
            number: str

        class Charge(Command, kind="payments.charge"):
            order: str

        CHECKOUT = Saga(
            "checkout", Order, (Step("payment", lambda order: Charge(order=order.number)),)
        )
        sagas = SagaExtension(sagas=[CHECKOUT], contexts=[Context("payments")])

        def create_app() -> Flask:
            app = Flask(__name__)
            sagas.init_app(app)
            return app
        ```
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        sagas: Iterable[Saga[Any]] = (),
        contexts: Iterable[Context] = (),
        db: Any = None,
    ) -> None:
        self._sagas = tuple(sagas)
        self._contexts = tuple(contexts)
        self._db = db
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the extension known to an application; nothing connects before it is used.

        Raises `DefinitionError` for a setting that is wrong, and for sagas or contexts that
        collide.
        """
        app.extensions[_EXTENSION] = _Installed(
            app, self._sagas, self._contexts, self._db, _settings(app)
        )
        app.cli.add_command(_command)

    @property
    def runtime(self) -> Runtime:
        """The current application's Runtime."""
        return _installed(current_app).runtime

    def start(
        self, saga: Saga[D], data: D, *, key: str | None = None, session: Any = None
    ) -> SagaHandle:
        """Start a saga with the session's own writes, and return its id, as a handle.

        It begins when the caller commits, or never.

        Args:
            saga: Its definition.
            data: What it begins with.
            key: The business key, if it is not the definition's to say.
            session: Another Session or Connection than that of the application's Flask-SQLAlchemy.

        Raises what `Runtime.start` raises.
        """
        return self.runtime.start(self._handle(session), saga, data, key=key)

    def start_many(
        self,
        saga: Saga[D],
        items: Sequence[D],
        *,
        keys: Sequence[str | None] | None = None,
        session: Any = None,
    ) -> list[SagaHandle]:
        """Start a saga for each item, all or none; see `start`."""
        return self.runtime.start_many(self._handle(session), saga, items, keys=keys)

    def publish(self, event: Event, *, session: Any = None) -> UUID:
        """Publish a domain event with the session's own writes, and return its id."""
        return self.runtime.publish(self._handle(session), event)

    def signal(
        self, saga_id: UUID, event: Event, *, id: UUID | None = None, session: Any = None
    ) -> None:
        """Send a saga what one of its waits takes; see `Runtime.signal`."""
        self.runtime.signal(self._handle(session), saga_id, event, id=id)

    def cancel(self, saga_id: UUID, *, reason: str, actor: str, session: Any = None) -> Acted:
        """Cancel a saga; see `Runtime.cancel`."""
        return self.runtime.cancel(self._handle(session), saga_id, reason=reason, actor=actor)

    def _handle(self, session: Any) -> Any:
        db = _installed(current_app).db
        if session is None and db is None:
            raise NoTransaction(
                "give the Session or Connection of your own writes (session=…), or make the "
                "extension with your Flask-SQLAlchemy: SagaExtension(app, db=db)"
            )
        return db.session if session is None else session


@dataclass
class _Installed:
    """What one application has of the extension."""

    app: Flask
    sagas: Sequence[Saga[Any]]
    contexts: Sequence[Context]
    db: Any
    settings: Settings

    @once
    def runtime(self) -> Runtime:
        return Runtime(
            sagas=self.sagas,
            contexts=self.contexts,
            settings=self.settings,
            engine=None if self.db is None else self._engine(),
            databases={} if self.db is None else self._own_engines(),
            around=_around(self.app, self.db),
        )

    def _engine(self) -> Engine:
        with self.app.app_context():
            engine: Engine = self.db.engine
        if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
            raise DefinitionError(
                "SQLALCHEMY_DATABASE_URI must be postgresql+psycopg://…: sagas are kept in "
                f"Postgres, through psycopg 3, not in {engine.dialect.name} through "
                f"{engine.dialect.driver}"
            )
        return engine

    def _own_engines(self) -> dict[str, Engine]:
        """The binds that contexts have for a database of their own."""
        with self.app.app_context():
            binds: Mapping[str | None, Engine] = self.db.engines
        own = (context.database for context in self.contexts)
        return {name: binds[name] for name in own if name is not None and name in binds}


def worker_runtime() -> Runtime:
    """Return the Runtime of the application that ``FLASK_APP`` names: for worker processes."""
    return _installed(ScriptInfo(app_import_path=os.environ.get("FLASK_APP")).load_app()).runtime


def _around(app: Flask, db: Any) -> Around:
    @contextmanager
    def around(work: Work) -> Iterator[None]:
        with app.app_context():
            if db is None:
                yield
                return
            session = db.session()
            session.join_transaction_mode = "create_savepoint"
            session.get_bind = _bind(session, work)
            yield
            # Flushes, and releases the session's savepoint; the hop commits.
            session.commit()

    return around if db is not None or app is not None else nothing_around


def _bind(session: Any, work: Work) -> Callable[..., Any]:
    """Let a session write in the hop's transaction, and nowhere else."""
    usual = session.get_bind

    def bind(mapper: Any = None, *, clause: Any = None, **others: Any) -> Any:
        if usual(mapper, clause=clause, **others) is not work.connection.engine:
            raise NoTransaction(
                "a handler's session cannot write to another bind: it would be committed apart "
                "from the delivery; use a handler that is external for that"
            )
        return work.connection

    return bind


def _installed(app: Flask) -> _Installed:
    found = app.extensions.get(_EXTENSION)
    if not isinstance(found, _Installed):
        raise DefinitionError(
            f"the application {app.name!r} has no sagas: SagaExtension(app) or saga.init_app(app)"
        )
    return found


def _settings(app: Flask) -> Settings:
    given: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        key = str(field.validation_alias or f"SAGA_{name.upper()}")
        if key in app.config:
            given[name] = app.config[key]
    if "database_url" not in given and "SQLALCHEMY_DATABASE_URI" in app.config:
        uri = str(app.config["SQLALCHEMY_DATABASE_URI"])
        if uri.startswith("postgresql"):
            given["database_url"] = uri
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        key = name if name.startswith("SAGA_") else f"SAGA_{name.upper()}"
        raise DefinitionError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None


class _FlaskDesk(Desk):
    """What the commands of ``flask saga`` work with: the application's runtime."""

    program = "flask saga"
    database_setting = 'app.config["SQLALCHEMY_DATABASE_URI"]'
    redis_setting = 'app.config["SAGA_REDIS_URL"]'

    def __init__(self, app: Flask) -> None:
        super().__init__(_WORKER_APP)
        self._flask = app

    @property
    def acting_program(self) -> str:
        return self.program

    @once
    def runtime(self) -> Runtime:
        return _installed(self._flask).runtime


@click.command(
    _EXTENSION,
    help="Start, run, inspect and repair sagas: `flask saga --help` lists the commands.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def _command(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Hand everything over to the command line of `boundary.cli`."""
    info = context.ensure_object(ScriptInfo)
    if info.app_import_path:  # for the processes of a worker
        os.environ["FLASK_APP"] = info.app_import_path
    main(list(arguments), _FlaskDesk(info.load_app()))
