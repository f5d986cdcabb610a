"""Navigation: the pages in groups, by what a reader wants.  The first page lists them too."""

from sphinx.application import Sphinx

ROOT = "docs/README"

#: Groups of the side bar; `*` is what lies in a folder.
GROUPS = {
    "Start": ["README", "examples/flask_travel/README", "examples/django_shop/README"],
    "Guides": [
        "docs/django",
        "docs/flask",
        "docs/embedding",
        "docs/choreography",
        "docs/own_database",
        "docs/bridges",
    ],
    "Operating": [
        "docs/operating",
        "docs/reliability",
        "docs/scaling",
        "docs/export",
    ],
    "Reference": [
        "docs/reference/saga",
        "docs/reference/internals",
        "docs/reference/boundary",
        "docs/reference/django",
        "docs/reference/flask",
        "docs/reference/errors",
        "docs/reference/testing",
        "docs/glossary",
    ],
    "Design": ["docs/architecture", "docs/adr/README", "docs/mutation"],
    "Project": ["CONTRIBUTING", "CHANGELOG", "SECURITY"],
}
#: Pages that are below another one.
BELOW = {"docs/adr/README": ["docs/adr/0*"], "docs/scaling": ["benchmarks/results/*"]}


def setup(app: Sphinx) -> dict[str, bool]:
    """Give pages their tables of contents, which Markdown has no word for."""
    app.connect("source-read", _add_contents)
    return {"parallel_read_safe": True}


def _add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    if page == ROOT:
        source[0] += "".join(_contents(pages, group) for group, pages in GROUPS.items())
    elif page in BELOW:
        source[0] += _contents(BELOW[page])


def _contents(pages: list[str], caption: str = "") -> str:
    lines = ["", "```{toctree}", ":hidden:", ":glob:"]
    if caption:
        lines.append(f":caption: {caption}")
    return "\n".join([*lines, "", *(f"/{page}" for page in pages), "```", ""])
