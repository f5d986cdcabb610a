"""Conf: the one ``SAGA`` dict of a project's settings."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from boundary.settings import Settings

#: The keys of ``SAGA`` and the settings they stand for; ``DATABASE`` is Django's own.
KEYS: Mapping[str, str] = {
    "REDIS_URL": "redis_url",
    "SCHEMA": "db_schema",
    "NAMESPACE": "namespace",
    "BATCH": "batch",
    "BUDGET": "budget",
    "HANDLER_LIMIT": "handler_limit",
    "BATCH_LIMIT": "batch_limit",
    "GRACE": "grace",
    "MAX_PAYLOAD": "max_payload",
    "MAX_DEPTH": "max_depth",
    "SUSPECT_STARTS": "suspect_starts",
    "YIELDS": "yields",
    "COLOCATE": "colocate",
    "FROZEN_AFTER": "frozen_after",
}
DATABASE = "DATABASE"


class ProjectSettings(Settings):
    """Settings that come from the project alone: the environment of a process has no say."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - this and the others: as pydantic calls it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def given() -> Mapping[str, Any]:
    """Return the project's ``SAGA``; empty if there is none.

    Raises `ImproperlyConfigured` if it is no dict.
    """
    found = getattr(project, "SAGA", {})
    if not isinstance(found, dict):
        raise ImproperlyConfigured(f"SAGA must be a dict, not {type(found).__name__}")
    return found


def database_alias() -> str:
    """Return the alias of the database that holds the framework's tables."""
    alias: str = given().get(DATABASE, DEFAULT_DB_ALIAS)
    return alias


def schema() -> str:
    """Return the Postgres schema of the tables, as the settings say it.

    Models ask while they are imported, before the checks tell of what is wrong.
    """
    found = getattr(project, "SAGA", None)
    name = found.get("SCHEMA") if isinstance(found, dict) else None
    return str(name or Settings.model_fields["db_schema"].default)


def read_settings() -> ProjectSettings:
    """Return the settings; raises `ImproperlyConfigured` for what the checks would tell of."""
    try:
        return ProjectSettings(**_values())
    except ValidationError as error:
        problems = "; ".join(f"SAGA[{key!r}]: {why}" for key, why in problems_of(error))
        raise ImproperlyConfigured(problems) from None


def problems_of(error: ValidationError) -> list[tuple[str, str]]:
    """Return the keys that are wrong, each with the reason and without its value."""
    keys = {field: key for key, field in KEYS.items()} | {"SAGA_SCHEMA": "SCHEMA"}
    return [
        (keys.get(str(problem["loc"][0]), "?"), problem["msg"].removeprefix("Value error, "))
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _values() -> dict[str, Any]:
    return {KEYS[key]: value for key, value in given().items() if key in KEYS}
