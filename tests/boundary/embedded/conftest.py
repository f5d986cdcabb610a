"""Folders in which servers run, and processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from boundary.embedded import EmbeddedServers
from tests.boundary.embedded.inspection import USER, kill_servers, open_folder, remove
from tests.conftest import ROOT


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder that any user of the host can traverse."""
    folder = open_folder()
    yield folder
    remove(folder)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A folder in which servers have run once: most of a first start is initdb."""
    top = open_folder()
    try:
        with EmbeddedServers(top / "s", durable=False):
            pass
        yield top / "s"
    finally:
        remove(top)


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    """A folder of servers that have run before and do not run now."""
    yield initialised
    kill_servers(initialised)


@pytest.fixture
def users() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other processes that use the servers of a folder."""
    with ExitStack() as started:

        def start(folder: Path, servers: str = "postgres") -> subprocess.Popen[str]:
            user = subprocess.Popen(
                [sys.executable, "-c", USER, str(folder), servers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            )
            started.enter_context(user)
            started.callback(user.kill)
            return user

        yield start
