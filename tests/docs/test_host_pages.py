"""Pages that are transcripts: each is followed, in an empty folder, with the package as users get it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boundary.embedded import EmbeddedServers
from tests.conftest import ROOT
from tests.docs.page_runner import Stranger


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", ["django.md", "flask.md", "choreography.md"])
def test_the_transcript_is_what_happens(
    page: str,
    packaged: Path,
    tmp_path: Path,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServers() as servers:  # kept running between the commands, which is faster
        Stranger(tmp_path, packaged, eventually).follow(ROOT / "docs" / page)
    shutil.rmtree(servers.directory)
