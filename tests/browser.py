"""A real browser for tests: the distribution's Chromium, driven by Playwright.

`pytest_plugins = ["tests.browser"]` in a test module brings the fixtures `chromium` and `page`.

Playwright keeps an event loop running in the thread of the test, and Django refuses its database
to such a thread: a test that has a `page` looks at tables by psycopg, or over HTTP.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # it refuses one to root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

#: Milliseconds that a page is given before a test counts as failed.
_PATIENCE = 60_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium, which is installed first where that can be done."""
    found = _find() or _install()
    if found is None:
        pytest.fail(
            "no Chromium on the PATH: `apt-get install -y chromium`, or your distribution's way",
            pytrace=False,
        )
    return found


@pytest.fixture
def page(chromium: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a browser that has seen nothing before; an error of its scripts fails the test."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "chromium"),
            executable_path=chromium,
            args=list(_ARGUMENTS),
            viewport={"width": 1280, "height": 900},
        )
        try:
            browser.set_default_timeout(_PATIENCE)
            shown = browser.pages[0] if browser.pages else browser.new_page()
            shown.on("pageerror", lambda error: errors.append(str(error)))
            yield shown
        finally:
            browser.close()
    assert errors == []


def _find() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def _install() -> str | None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return None
    # Other test processes may come here at the same time.
    with (Path(tempfile.gettempdir()) / "saga-test-chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments in (["update"], ["install", "-y", "chromium"]):
            if _find() is None:
                subprocess.run(
                    [apt, "-q", *arguments],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                )
    return _find()
