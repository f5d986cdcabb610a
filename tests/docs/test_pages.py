"""The pages of the documentation: links lead somewhere, and diagrams are the code's."""

import ast
import re
from pathlib import Path

import pytest

from saga.diagram import render
from tests.conftest import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *ROOT.glob("examples/**/*.md")]
)

#: Paths that are named as code: where the reader is to look.
_NAMED = re.compile(
    r"`((?:saga|internals|boundary|migrations|examples|benchmarks|docs|tests|\.ci)/[\w/.*-]*)`"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_code_marks_exist(page: Path) -> None:
    """Module paths such as `saga/decide/__init__.py` are named where the reader is to look."""
    # `boundary/migrations` is where the wheel keeps them.
    named = set(_NAMED.findall(page.read_text())) - {"boundary/migrations"}
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    assert not missing


def test_the_map_names_each_room_once() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = re.search(r"<!-- map -->\n```\n(.*?)```\n<!-- end of map -->", page, re.DOTALL)
    assert found is not None
    assert sorted(_drawn(found.group(1))) == sorted(_rooms())


def test_a_walk_names_files_alone_and_in_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    walks = page.partition("## Five walks")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert len(walks) == 5
    for walk in walks:
        stays = re.findall(r"^(\d+)\. `([\w/.]+)`", walk, re.MULTILINE)
        assert [int(number) for number, _ in stays] == list(range(1, len(stays) + 1))
        assert len(stays) >= 5
        assert all((ROOT / path).is_file() for _, path in stays), walk.partition("\n")[0]


def test_a_walk_names_what_its_files_define() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    walks = page.partition("## Five walks")[2].partition("\n## ")[0]
    named = re.findall(r"^\d+\. `([\w/.]+\.py)`: `([\w.]+)`", walks, re.MULTILINE)
    assert len(named) > 30
    assert [(path, name) for path, name in named if not _defines(ROOT / path, name)] == []


def test_find_your_way_names_what_its_files_define() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`(\w[\w.]*)`(?: and `\w+`)? in `([\w/.]+\.py)`", page)
    assert len(named) > 20
    assert [(path, name) for name, path in named if not _defines(ROOT / path, name)] == []


def _defines(path: Path, name: str) -> bool:
    """Whether a module defines a function, class, method or constant."""
    scope: ast.AST = ast.parse(path.read_text())
    for part in name.split("."):
        found = [node for node in ast.iter_child_nodes(scope) if part in _bound(node)]
        if not found:
            return False
        scope = found[0]
    return True


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_each_term_of_the_glossary_has_its_equivalents() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) > 40
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in rows)
    terms = [row[0].strip() for row in rows]
    assert len(set(terms)) == len(terms)


def _drawn(tree: str) -> list[str]:
    """The paths of a tree that is drawn with two spaces for each level."""
    above: list[str] = []
    paths = []
    for line in tree.splitlines():
        name = line.split()[0].rstrip("/")
        above = [*above[: (len(line) - len(line.lstrip())) // 2], name]
        paths.append("/".join(above))
    return paths


def _rooms() -> list[str]:
    """The packages, and what is directly in each: folders with modules, and modules."""
    rooms = []
    for package in ("saga", "internals", "boundary"):
        rooms.append(package)
        for path in (ROOT / package).iterdir():
            is_room = path.is_dir() and any(path.glob("**/*.py"))
            if is_room or (path.suffix == ".py" and path.stem != "__init__"):
                rooms.append(f"{package}/{path.name}")
    return rooms


def test_the_state_diagrams_are_generated() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = re.search(
        r"<!-- state diagrams: generated -->\n(.*?)<!-- end of state diagrams -->", page, re.DOTALL
    )
    assert found is not None
    assert found.group(1).strip() == render().strip(), "run `python -m saga.diagram` and paste it"
