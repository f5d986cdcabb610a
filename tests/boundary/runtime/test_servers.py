"""Servers: the configured ones are used as they are; without a URL there are embedded ones."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

from boundary import Settings
from boundary.embedded import EmbeddedServers
from boundary.runtime.servers import Servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account can traverse."""
    top = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp"))
    top.chmod(0o755)
    yield top / "servers"
    shutil.rmtree(top)


def test_given_urls_are_used_and_nothing_is_started(folder: Path) -> None:
    servers = Servers(
        Settings(
            database_url="postgresql://db/trips", redis_url="redis://cache", embedded_dir=folder
        )
    )
    assert servers.database_url == "postgresql+psycopg://db/trips"
    assert servers.redis_url == "redis://cache"
    servers.stop()
    assert not folder.exists()


def test_without_urls_both_are_started_once_and_left_at_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAGA_DATABASE_URL", raising=False)
    monkeypatch.delenv("SAGA_REDIS_URL", raising=False)
    servers = Servers(Settings(embedded_dir=folder))
    assert not folder.exists()  # not before they are used
    try:
        engine = create_engine(servers.database_url)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()
        running = EmbeddedServers(folder)
        assert running.postgres_pid is not None
        assert running.valkey_pid is not None
    finally:
        servers.stop()
        servers.stop()  # harmless
    assert (running.postgres_pid, running.valkey_pid) == (None, None)  # type: ignore[comparison-overlap]


def test_only_what_has_no_url_is_embedded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGA_REDIS_URL", raising=False)
    servers = Servers(Settings(database_url="postgresql://db/trips", embedded_dir=folder))
    try:
        assert servers.redis_url.startswith("redis://:")
        assert servers.database_url == "postgresql+psycopg://db/trips"
        running = EmbeddedServers(folder)
        assert running.postgres_pid is None
        assert running.valkey_pid is not None
    finally:
        servers.stop()
    assert running.valkey_pid is None
