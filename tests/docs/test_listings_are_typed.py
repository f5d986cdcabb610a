"""What the pages and docstrings show passes a strict type checker, without any plugin."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.docs.test_docstrings import examples
from tests.docs.test_pages import PAGES

_CONFIG = """
[mypy]
strict = true
explicit_package_bases = true
# Django and Flask-SQLAlchemy have no types of their own that a checker could use here.
disallow_subclassing_any = false
disallow_untyped_decorators = false
[mypy-django.*,flask_sqlalchemy.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-contexts]
# `db.Model` is made when it runs.
disable_error_code = name-defined
"""

#: What a reader has at hand where a page shows a few lines alone, or a file's end: by the page, and
#: what the lines begin with.
_AT_HAND = {
    ("README.md", "with runtime"): 'order = Order(number="A-1", cents=9900)',
    ("docs/embedding.md", "from wsgiref"): "engine = runtime.engine",
    ("docs/embedding.md", "saga = "): "from saga import Status",
    ("docs/django.md", "# site1/settings.py"): "INSTALLED_APPS: list[str] = []",
    ("docs/operating.md", "  def include_name"): "from typing import Any",
}


def test_every_listing_passes(tmp_path: Path) -> None:
    listings = {**_listings_of_pages(), **_listings_of_docstrings()}
    assert len(listings) > 25
    for name, text in listings.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    config = tmp_path / "mypy.ini"
    config.write_text(_CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(config)),
            *("--cache-dir", str(tmp_path / "cache"), *sorted(listings)),
        ],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _listings_of_pages() -> dict[str, str]:
    """Return the text of each file that a page has its reader write; what has no name, by its page."""
    files: dict[str, str] = {}
    for page in PAGES:
        where = str(page.relative_to(ROOT))
        own: list[str] = []
        loose: list[str] = []
        for listing in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            hand = [
                text
                for (of, begin), text in _AT_HAND.items()
                if of == where and listing.startswith(begin)
            ]
            text = "\n".join([*hand, listing])
            named = re.match(r"# ([\w/]+\.py)(, at the end)?\n", listing)
            if named is None:
                loose.append(text)
            else:
                files[named[1]] = files.get(named[1], "") + text if named[2] else text
                own.append(named[1])
        if loose:  # they go on with the page's files
            before = [files[name] for name in dict.fromkeys(own)]
            files[f"{re.sub(r'[^a-z]', '_', where.lower())}.py"] = "\n".join(
                [*before, *map(_dedented, loose)]
            )
    return files


def _dedented(text: str) -> str:
    """Return a listing that is part of an item of a list as it stands alone."""
    indented = text.partition("\n  def ")
    return (
        text
        if not indented[1]
        else "\n".join(line.removeprefix("  ") for line in text.splitlines())
    )


def _listings_of_docstrings() -> dict[str, str]:
    return {f"example_{name.replace('.', '_')}.py": listing for name, listing in examples()}
