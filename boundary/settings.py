"""Settings: read from ``SAGA_…`` environment variables, or given in code."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from boundary.server_urls import psycopg_url, redis_url
from internals.database.transaction_limits import FROZEN_AFTER
from internals.hop import BATCH
from internals.hop.context_consumer import SUSPECT_STARTS
from internals.hop.time_limits import BATCH_LIMIT, LIMIT
from internals.hop.uncounted_retries import YIELDS
from internals.store.outbox import DEFAULT_MAX_DEPTH, DEFAULT_MAX_PAYLOAD
from internals.store.tables import SCHEMA


class Settings(BaseSettings):
    """Where the servers are, and the few numbers worth changing."""

    model_config = SettingsConfigDict(
        env_prefix="SAGA_", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None, description="Postgres; without it an embedded server is started"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey; without it an embedded server is started"
    )
    databases: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Postgres of the contexts that have one of their own, by name, as JSON",
    )
    db_schema: str = Field(
        SCHEMA, validation_alias="SAGA_SCHEMA", description="Postgres schema of the tables"
    )
    namespace: str = Field("saga", description="prefix of all keys in Redis")
    embedded_dir: Path | None = Field(None, description="folder of the embedded servers")
    batch: int = Field(BATCH, ge=1, description="deliveries of one hop at most")
    budget: float = Field(0.1, gt=0, description="seconds after which a batch takes no more")
    handler_limit: float = Field(
        LIMIT, gt=0, description="seconds that a handler may run which declares no limit"
    )
    batch_limit: float = Field(
        BATCH_LIMIT, gt=0, description="seconds that a handler may hold up the others of its batch"
    )
    grace: float = Field(1.0, gt=0, description="seconds until a delivery counts as late")
    max_payload: int = Field(DEFAULT_MAX_PAYLOAD, ge=1, description="bytes of a payload at most")
    max_depth: int = Field(
        DEFAULT_MAX_DEPTH, ge=1, description="messages that may cause each other in a row"
    )
    suspect_starts: int = Field(
        SUSPECT_STARTS, ge=1, description="starts of what seems to kill its workers"
    )
    yields: int = Field(
        YIELDS, ge=0, description="runs in a row that give way to the database uncounted"
    )
    colocate: bool = Field(
        True, description="let a saga hear of a step in the transaction of its handlers"
    )
    frozen_after: float = Field(
        FROZEN_AFTER,
        gt=0,
        le=86_400,
        description="seconds after which others go on without a worker that stands still",
    )
    prepared_statements: bool = Field(
        True, description="off for a pooler in transaction mode that does not know them"
    )
    pool_size: int = Field(10, ge=1, description="database connections kept by one process")

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
