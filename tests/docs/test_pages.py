"""The pages of the documentation: links lead somewhere, and diagrams are the code's."""

import re
from pathlib import Path

import pytest

from saga.diagram import render
from tests.conftest import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_marks_exist(page: Path) -> None:
    """Module paths such as `saga/decide/__init__.py` are named where the reader is to look."""
    named = re.findall(
        r"`((?:saga|internals|boundary|examples|benchmarks|docs)/[\w/.]+)`", page.read_text()
    )
    # `boundary/migrations` is where the wheel keeps them.
    missing = [n for n in named if not (ROOT / n).exists() and n != "boundary/migrations"]
    assert not missing


def test_the_state_diagrams_are_generated() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = re.search(
        r"<!-- state diagrams: generated -->\n(.*?)<!-- end of state diagrams -->", page, re.DOTALL
    )
    assert found is not None
    assert found.group(1).strip() == render().strip(), "run `python -m saga.diagram` and paste it"
