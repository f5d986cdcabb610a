"""A project in one module: its settings come from the environment, in this and other processes."""

import os
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

_NAMES = ("default", "other")

#: What `configure` was told, in the process that it was called in.
_here: dict[str, str] = {}


def configure(database_url: str, redis_url: str, name: str) -> dict[str, str]:
    """Put the settings into the environment; returns database names by alias."""
    _here.update(
        DJANGO_SETTINGS_MODULE="django_settings",
        DJT_DATABASE_URL=database_url,
        DJT_REDIS_URL=redis_url,
        DJT_NAME=name,
    )
    os.environ.update(_here)
    return {alias: f"{name}_{alias}" for alias in _NAMES}


def environment() -> dict[str, str]:
    """Return what another process needs to be of this project."""
    return dict(_here)


def create_databases(url: str, names: dict[str, str]) -> None:
    with _connect(url) as connection:
        for name in names.values():
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
            )


def drop_databases(url: str, names: dict[str, str]) -> None:
    with _connect(url) as connection:
        for name in names.values():
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


def database(alias: str, **more: Any) -> dict[str, Any]:
    """Return an entry of DATABASES."""
    url = make_url(os.environ["DJT_DATABASE_URL"])
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": f"{os.environ['DJT_NAME']}_{alias}",
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.host,
        "PORT": url.port,
        "CONN_MAX_AGE": 60,
        # The user is called as the schema is, which would come first.
        "OPTIONS": {"options": "-c search_path=public"},
        **more,
    }


def _connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
