"""Checks: what `manage.py check` reports of a project's settings, and how to fix it."""

import difflib
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - as Django calls it
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from pydantic import ValidationError

from boundary.django.conf import (
    DATABASE,
    KEYS,
    ProjectSettings,
    database_alias,
    given,
    problems_of,
    schema,
)
from boundary.django.project import collect
from boundary.runtime import Runtime
from internals.store.sql import statements
from saga.errors import DefinitionError

_EXAMPLE = 'SAGA = {"REDIS_URL": "redis://:password@host:6379/0"}'


def check_settings(**_: Any) -> list[CheckMessage]:
    """Look at the ``SAGA`` dict."""
    try:
        values = given()
    except ImproperlyConfigured as error:
        return [Error(f"{error}.", hint=f"For example {_EXAMPLE}", id="saga.E001")]
    found: list[CheckMessage] = [
        Error(f"SAGA has an unknown key {key!r}.", hint=_meant(key), id="saga.E002")
        for key in values
        if key not in KEYS and key != DATABASE
    ]
    if not values.get("REDIS_URL"):
        found.append(
            Error(
                "SAGA has no REDIS_URL.",
                hint=f"Doorbells between processes ring in Redis or Valkey: {_EXAMPLE}",
                id="saga.E004",
            )
        )
    try:
        settings = ProjectSettings(**{KEYS[k]: v for k, v in values.items() if k in KEYS})
        statements(settings.db_schema)
    except ValidationError as error:
        found += [
            Error(f"SAGA[{key!r}] is wrong.", hint=f"{why}.", id="saga.E003")
            for key, why in problems_of(error)
        ]
    except DefinitionError as error:
        found.append(Error("SAGA['SCHEMA'] is wrong.", hint=f"{error}.", id="saga.E003"))
    return found


def check_database(**_: Any) -> list[CheckMessage]:
    """Look whether the database of the sagas is one that can hold them; connects to nothing."""
    try:
        alias = database_alias()
    except ImproperlyConfigured:
        return []  # told above
    if alias not in list(connections):
        return [
            Error(
                f"SAGA['DATABASE'] is {alias!r}, which DATABASES does not have.",
                hint=f"It has {', '.join(map(repr, connections))}.",
                id="saga.E005",
            )
        ]
    engine = connections.settings[alias]["ENGINE"]
    if connections[alias].vendor != "postgresql":
        return [
            Error(
                f"Sagas are kept in Postgres, and the database {alias!r} is {engine}.",
                hint="Set its ENGINE to django.db.backends.postgresql, or SAGA['DATABASE'] to the "
                "alias of a database that is.",
                id="saga.E006",
            )
        ]
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415 - needs one

    if not is_psycopg3:
        return [
            Error(
                "Django uses psycopg2, and sagas need psycopg 3.",
                hint="pip install 'psycopg[binary]>=3.2'; Django takes it by itself then.",
                id="saga.E007",
            )
        ]
    return _check_search_path(alias)


def check_definitions(**_: Any) -> list[CheckMessage]:
    """Look whether sagas and contexts of different apps collide."""
    sagas, contexts = collect()
    try:
        Runtime(sagas=sagas, contexts=contexts, settings=ProjectSettings())
    except DefinitionError as error:
        return [
            Error(
                f"Sagas or contexts collide: {error}.",
                hint="They are collected from sagas.py and contexts.py of every app.",
                id="saga.E008",
            )
        ]
    return [
        Error(
            f"Context {context.name!r} has a database {context.database!r} of its own, which "
            "DATABASES does not have.",
            hint=f"It has {', '.join(map(repr, connections))}.",
            id="saga.E009",
        )
        for context in contexts
        if context.database is not None and context.database not in list(connections)
    ]


def _check_search_path(alias: str) -> list[CheckMessage]:
    """Postgres makes tables in the schema that is called as the user is, if there is one."""
    database = connections.settings[alias]
    if database.get("USER") != schema() or "search_path" in str(database["OPTIONS"].get("options")):
        return []
    return [
        Warning(
            f"The database user and the schema of the sagas are both called {schema()!r}, so "
            "Django's own tables would be made in that schema.",
            hint="Set SAGA['SCHEMA'] to another name, or the database's "
            'OPTIONS to {"options": "-c search_path=public"}.',
            id="saga.W001",
        )
    ]


def _meant(key: object) -> str:
    close = difflib.get_close_matches(str(key).upper(), [DATABASE, *KEYS], n=1, cutoff=0.7)
    return f"Did you mean {close[0]!r}?" if close else f"It knows {', '.join((DATABASE, *KEYS))}."
