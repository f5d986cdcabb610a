"""The page about a context's own database is a transcript, followed with two databases."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from tests.conftest import ROOT, Addresses
from tests.docs.page_runner import Stranger


@pytest.fixture
def databases(owner: Engine) -> Iterator[list[str]]:
    """Two empty databases of this test's own: SQLAlchemy's URLs of them."""
    names = [f"saga_test_{uuid4().hex[:12]}" for _ in range(2)]
    with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for name in names:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        yield [owner.url.set(database=n).render_as_string(hide_password=False) for n in names]
        for name in names:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.timeout(300)
def test_the_transcript_is_what_happens(
    packaged: Path,
    tmp_path: Path,
    servers: Addresses,
    databases: list[str],
    eventually: Callable[..., Any],
    own_name: str,
) -> None:
    stranger = Stranger(tmp_path, packaged, eventually)
    stranger.knows(
        SAGA_DATABASE_URL=databases[0],
        SAGA_DATABASES=json.dumps({"inn": databases[1]}),
        SAGA_REDIS_URL=servers.redis_url,
        SAGA_NAMESPACE=own_name,
    )
    stranger.follow(ROOT / "docs" / "own_database.md")
