"""Settings: read from ``SAGA_…`` environment variables, or given in code."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from boundary.server_urls import psycopg_url, redis_url
from internals.database.transaction_limits import FROZEN_AFTER
from internals.hop import BATCH
from internals.hop.context_consumer import SUSPECT_STARTS
from internals.hop.time_limits import BATCH_LIMIT, LIMIT
from internals.hop.uncounted_retries import YIELDS
from internals.store.outbox import DEFAULT_MAX_DEPTH, DEFAULT_MAX_PAYLOAD
from internals.store.tables import SCHEMA

_DURATION = TypeAdapter(timedelta)


def _in_seconds(value: object) -> object:
    """Return the seconds of a timedelta, or of its text in ISO 8601; anything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
        try:
            value = _DURATION.validate_python(value)
        except ValidationError:
            raise ValueError("give seconds, such as 2.5, or a duration such as PT2.5S") from None
    return value.total_seconds() if isinstance(value, timedelta) else value


#: A duration: a timedelta, a number of seconds, or a text of either.  It is kept as seconds.
Seconds = Annotated[float, BeforeValidator(_in_seconds), Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Where the servers are, and the few numbers worth changing.

    What is not given is read from the environment, from the variable ``SAGA_`` and the name in capitals.
    Durations are given as timedeltas or as seconds, in the environment as seconds or in ISO 8601
    (``PT2.5S``); the attributes are seconds.  It does not change once it is made.

    Example:
        ```python
        from datetime import timedelta

        from boundary import Settings

        settings = Settings(
            database_url="postgresql://app@db/shop",
            redis_url="redis://cache:6379/0",
            handler_limit=timedelta(minutes=2),
        )
        assert settings.handler_limit == 120.0
        ```

    Attributes:
        database_url: Postgres; without it an embedded server is started.
        redis_url: Redis or Valkey; without it an embedded server is started.
        databases: Postgres of the contexts that have one of their own, by name; as JSON in the
            environment.
        db_schema: Postgres schema of the framework's tables; ``SAGA_SCHEMA`` in the environment.
        namespace: Prefix of all keys in Redis.
        embedded_dir: Folder of the embedded servers.
        batch: Deliveries of one hop at most.
        budget: Seconds after which a batch takes no further delivery.
        handler_limit: Seconds that a handler may run which declares no limit.
        batch_limit: Seconds that a handler may hold up the others of its batch.
        grace: Seconds until a delivery counts as late, and the relay rings for it.
        max_payload: Bytes of a payload at most.
        max_depth: Messages that may cause each other in a row.
        suspect_starts: Starts of a delivery that seems to kill its workers; then it is parked.
        yields: Runs in a row that give way to the database before they count as attempts.
        colocate: Whether a saga consumes the outcome of a step in the transaction of its handler.
        frozen_after: Seconds after which others go on without a worker that stands still; a day at
            most.
        prepared_statements: Off for a pooler in transaction mode that does not support them.
        pool_size: Database connections kept by one process.

    Raises:
        pydantic.ValidationError: A value cannot be used.  It names the setting, and no value.
    """

    model_config = SettingsConfigDict(
        env_prefix="SAGA_", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    databases: dict[str, SecretStr] = Field(default_factory=dict)
    db_schema: str = Field(default=SCHEMA, validation_alias="SAGA_SCHEMA")
    namespace: str = "saga"
    embedded_dir: Path | None = None
    batch: int = Field(default=BATCH, ge=1)
    budget: Seconds = 0.1
    handler_limit: Seconds = LIMIT
    batch_limit: Seconds = BATCH_LIMIT
    grace: Seconds = 1.0
    max_payload: int = Field(default=DEFAULT_MAX_PAYLOAD, ge=1)
    max_depth: int = Field(default=DEFAULT_MAX_DEPTH, ge=1)
    suspect_starts: int = Field(default=SUSPECT_STARTS, ge=1)
    yields: int = Field(default=YIELDS, ge=0)
    colocate: bool = True
    frozen_after: Annotated[Seconds, Field(le=86_400)] = FROZEN_AFTER
    prepared_statements: bool = True
    pool_size: int = Field(default=10, ge=1)

    if TYPE_CHECKING:  # what may be given is wider than what is kept

        def __init__(
            self,
            *,
            database_url: str | SecretStr | None = ...,
            redis_url: str | SecretStr | None = ...,
            databases: Mapping[str, str | SecretStr] = ...,
            db_schema: str = ...,
            namespace: str = ...,
            embedded_dir: str | Path | None = ...,
            batch: int = ...,
            budget: float | timedelta = ...,
            handler_limit: float | timedelta = ...,
            batch_limit: float | timedelta = ...,
            grace: float | timedelta = ...,
            max_payload: int = ...,
            max_depth: int = ...,
            suspect_starts: int = ...,
            yields: int = ...,
            colocate: bool = ...,
            frozen_after: float | timedelta = ...,
            prepared_statements: bool = ...,
            pool_size: int = ...,
        ) -> None: ...

    @field_validator("database_url")
    @classmethod
    def _use_psycopg(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else SecretStr(psycopg_url(url.get_secret_value()))

    @field_validator("databases")
    @classmethod
    def _use_psycopg_too(cls, urls: dict[str, SecretStr]) -> dict[str, SecretStr]:
        return {name: SecretStr(psycopg_url(url.get_secret_value())) for name, url in urls.items()}

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else SecretStr(redis_url(url.get_secret_value()))
