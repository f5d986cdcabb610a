"""The documentation site: what is wrong with a page fails the build, and docstrings become entries."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.site.docstrings import _taken_out, _unfenced, _with_listings
from docs.site.navigation import BELOW, GROUPS, ROOT
from tests.conftest import ROOT as CHECKOUT


def build(pages: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Build pages with the site's own configuration, as `make docs` does."""
    for name, text in pages.items():
        page = folder / "pages" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
    return subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"),
            *("-c", str(CHECKOUT / "docs" / "site"), "-D", "root_doc=page"),
            *(str(folder / "pages"), str(folder / "built")),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[nowhere](nowhere.md)", "nowhere.md"),
        ("[no heading](#no-such-heading)", "no-such-heading"),
        ("```{eval-rst}\n:py:class:`saga.Nothing`\n```", "saga.Nothing"),
        ("```{eval-rst}\n.. autoclass:: saga.Nothing\n```", "Nothing"),
    ],
)
def test_a_reference_to_nothing_fails_the_build(text: str, complaint: str, tmp_path: Path) -> None:
    built = build({"page.md": f"# Page\n\n{text}\n"}, tmp_path)
    assert built.returncode != 0
    assert complaint in built.stderr


def test_a_page_is_built_with_an_entry_from_a_docstring(tmp_path: Path) -> None:
    text = """# Page

[a source file](listing.py), [a folder](folder), and an entry:

```{eval-rst}
.. autoclass:: saga.Rejected
.. autoclass:: boundary.Settings
```
"""
    built = build(
        {"page.md": text, "listing.py": "print()\n", "folder/inside.py": "print()\n"}, tmp_path
    )
    assert (built.returncode, built.stderr) == (0, "")
    page = (tmp_path / "built" / "page.html").read_text()
    assert 'id="saga.Rejected"' in page
    assert "SAGA_DATABASE_URL" in page
    assert "listing.py" not in page


def test_each_page_of_the_navigation_is_there() -> None:
    named = [page for pages in (*GROUPS.values(), *BELOW.values()) for page in pages]
    missing = [page for page in [ROOT, *named] if not any(CHECKOUT.glob(f"{page}.md"))]
    assert not missing


def test_an_indented_block_of_a_docstring_is_a_listing() -> None:
    lines = [
        "A story:",
        "",
        "    given(trip)",
        "",
        "    .done()",
        "",
        "Args:",
        "    name: A word.",
        "",
    ]
    assert _with_listings(lines) == [
        *("A story:", "", "::", "", "    given(trip)", "", "    .done()", ""),
        *("Args:", "    name: A word.", ""),
    ]


def test_a_listing_between_fences_is_one_with_its_language() -> None:
    lines = ["Example:", "    ```python", "    if told:", "        tell()", "", "    ```", "Args:"]
    assert _unfenced(lines) == [
        *("Example:", "    .. code-block:: python", "", "        if told:", "            tell()"),
        *("", "", "Args:"),
    ]


def test_a_section_is_taken_out_with_what_it_says_of_each_name() -> None:
    lines = [
        "All.",
        "",
        "Attributes:",
        "    one: A word",
        "        or two.",
        "    two: No.",
        "",
        "End:",
    ]
    assert _taken_out(lines, "Attributes") == {"one": "A word or two.", "two": "No."}
    assert lines == ["All.", "", "End:"]
