"""The page about bridges is a transcript, followed with a station that is no part of the system."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from sqlalchemy import Engine, text

from tests.conftest import ROOT, Addresses
from tests.docs.page_runner import Stranger

#: The page's streams.
STREAMS = ("harbour", "pilots")


@pytest.fixture
def database(owner: Engine) -> Iterator[str]:
    """An empty database of this test's own: SQLAlchemy's URL of it."""
    name = f"saga_test_{uuid4().hex[:12]}"
    with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        yield owner.url.set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.timeout(300)
def test_the_transcript_is_what_happens(
    packaged: Path,
    tmp_path: Path,
    database: str,
    servers: Addresses,
    eventually: Callable[..., Any],
    own_name: str,
) -> None:
    page = tmp_path / "bridges.md"
    own = (ROOT / "docs" / "bridges.md").read_text()
    for stream in STREAMS:  # of this test alone, on a Redis that others use too
        own = own.replace(f'"{stream}", url', f'"{own_name}:{stream}", url')
        own = own.replace(f'"{stream}": "0"', f'"{own_name}:{stream}": "0"')
        own = own.replace(f'xadd("{stream}"', f'xadd("{own_name}:{stream}"')
    page.write_text(own)
    stranger = Stranger(tmp_path, packaged, eventually)
    stranger.knows(
        SAGA_DATABASE_URL=database, SAGA_REDIS_URL=servers.redis_url, SAGA_NAMESPACE=own_name
    )
    try:
        stranger.follow(page)
    finally:
        with redis.Redis.from_url(servers.redis_url) as client:
            client.delete(*(f"{own_name}:{stream}" for stream in STREAMS))
