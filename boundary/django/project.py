"""The project: its sagas and contexts as one Runtime, for each process."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

from django.apps import apps
from django.db import connections
from sqlalchemy import Engine

from boundary.django.apps import MODULES
from boundary.django.conf import database_alias, read_settings
from boundary.django.db.connections import DjangoDatabase
from boundary.django.db.engine import engine_of
from boundary.runtime import Runtime
from internals.context import Context
from internals.database.connections import Database
from internals.database.transaction_limits import Bounds
from internals.database.unit_of_work import UnitOfWork
from saga.definition import Saga

#: Settings that a runtime is made of.
_PARTS = frozenset({"SAGA", "DATABASES", "INSTALLED_APPS"})

_lock = Lock()
_made: "ProjectRuntime | None" = None


class ProjectRuntime(Runtime):
    """A Runtime whose transactions are Django's."""

    def __init__(self) -> None:
        settings = read_settings()
        sagas, contexts = collect()
        alias = database_alias()
        bounds = Bounds(settings.frozen_after)
        own = own_aliases(contexts)
        ours = (alias, *own)
        self.django = DjangoDatabase(alias, bounds, ours)
        self._own = {name: DjangoDatabase(name, bounds, ours) for name in own}
        super().__init__(
            sagas=sagas,
            contexts=contexts,
            settings=settings,
            database=self.django,
            engine=engine_of(alias),
            databases={name: engine_of(name) for name in own},
        )

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Within this, hops in any of its databases are savepoints of the `atomic()` around them."""
        with ExitStack() as stack:
            for database in (self.django, *self._own.values()):
                stack.enter_context(database.nested())
            yield

    @contextmanager
    def _reading(self) -> Iterator[UnitOfWork]:
        with self.django.reading() as unit:
            yield unit

    @contextmanager
    def _acting(self) -> Iterator[UnitOfWork]:
        """In the `atomic()` that the caller is in, it commits with that."""
        with self.nested(), super()._acting() as unit:
            yield unit

    def _open_own(self, name: str, engine: Engine) -> Database:
        return self._own[name]

    def answer(self, consumer: str, **options: Any) -> int:
        with self.django.serving():
            return super().answer(consumer, **options)


def runtime() -> ProjectRuntime:
    """Return this process's runtime, made when it is first asked for.

    Raises `ImproperlyConfigured` for settings that are wrong, and `DefinitionError` for sagas or
    contexts that collide.
    """
    global _made  # noqa: PLW0603 - one for a process, as the settings are
    if _made is None:
        with _lock:
            if _made is None:
                _made = ProjectRuntime()
    return _made


def own_aliases(contexts: Iterable[Context]) -> list[str]:
    """Return the aliases of databases that contexts have for their own."""
    found = {context.database for context in contexts if context.database is not None}
    return sorted(name for name in found - {database_alias()} if name in list(connections))


def collect() -> tuple[list[Saga[Any]], list[Context]]:
    """Return the sagas and contexts that the modules of all apps hold at their top, once each."""
    sagas: dict[int, Saga[Any]] = {}
    contexts: dict[int, Context] = {}
    for app in apps.get_app_configs():
        for name in MODULES:
            module = sys.modules.get(f"{app.name}.{name}")
            for value in list(vars(module).values()) if module else ():
                if isinstance(value, Saga):
                    sagas.setdefault(id(value), value)
                elif isinstance(value, Context):
                    contexts.setdefault(id(value), value)
    return list(sagas.values()), list(contexts.values())


def forget(*, setting: str, **_: Any) -> None:
    """Make the runtime anew when a test has changed what it is made of."""
    global _made
    if setting in _PARTS:
        with _lock:
            made, _made = _made, None
        if made is not None:
            made.close()


def subscribe(*, using: str, **_: Any) -> None:
    """Record what the contexts react to once the tables are there.

    So even an event that is published before the first worker boots reaches them.
    """
    if using != database_alias() or connections[using].vendor != "postgresql":
        return
    made = runtime()
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [f"{made.settings.db_schema}.subscription"])
        [there] = cursor.fetchone()
    if there is not None:
        with made.django.nested():
            made.subscribe()
