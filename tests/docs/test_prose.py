"""The pages are plain English: words that make a reader translate are refused, with what to write."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.test_pages import PAGES

#: Words that tell a reader nothing, or are nobody's idiom, and what to write in their place.
#: Whole words, whatever their case.
WORDS = {
    r"whoever|whomever|whosoever": "name who does it: a worker, a handler, the sender",
    r"reckon(?:s|ed|ing)?": "estimate, compute, count",
    r"(?:how-|so )?manieth": "number, nth",
    r"hears? of|heard of|hearing of": "receive, learn of, be notified of",
    r"(?:is|are|was|were|be|been|being) told": "receives, learns, is notified; or say who reports it",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"were (?:it|they)": "even, even if",
    r"(?:take|takes|took|taken|taking) back": "revoke",
    r"of which": "begin a new sentence",
    r"anew": "again",
    r"by whom ever|by whatever": "any",
    r"looks? after|looked after": "serve, handle, consume",
    r"sees? to it": "ensure, make sure",
    r"at nothing": "zero, empty",
    r"nobody's to|somebody's to": "say who does it",
    r"thereof|therein|whence|hitherto|heretofore|wherein": "use plain words",
    r"begun with|of old|of then|of today": "name the version or the time",
    r"gives? it leave|without leave": "permission",
}

_REFUSED = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), say) for words, say in WORDS.items()]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


def found_in(text: str) -> list[str]:
    """Return what is refused in a page, a line each; listings and code are not prose."""
    prose = _CODE.sub("`code`", _FENCE.sub(lambda block: "\n" * block.group().count("\n"), text))
    # A phrase may begin on one line and end on the next.
    flat = prose.replace("\n", " ")
    return [
        f"line {prose.count(chr(10), 0, match.start()) + 1}: {match.group()!r}; write: {say}"
        for pattern, say in _REFUSED
        for match in pattern.finditer(flat)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_no_word_that_means_nothing_to_a_reader(page: Path) -> None:
    assert found_in(page.read_text()) == []


@pytest.mark.parametrize("package", ["saga", "internals", "boundary"])
def test_no_such_word_is_in_an_error_a_log_line_or_the_help(package: str) -> None:
    """What a user reads of a program: texts that are raised or logged, and what `--help` prints."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {each}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in _shown(path)
        for each in found_in(text)
    ]
    assert found == []


def _shown(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            yield from _texts(node)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func).startswith("logger."):
                yield from _texts(node)
            for keyword in node.keywords:
                if keyword.arg in {"help", "help_text"}:
                    yield from _texts(keyword.value)
        elif isinstance(node, ast.FunctionDef) and "commands" in path.parts:
            yield node.lineno, ast.get_docstring(node) or ""


def _texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def test_every_page_is_read() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/glossary.md"} <= names
    assert {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")} <= names


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Whoever sends it waits.", 1),
        ("It is taken\nback later.", 1),
        ("```sh\nmend\n```\n\nWe reckon so.", 5),
        ("A saga that\nis told of it.", 2),
    ],
)
def test_such_a_word_is_found_where_it_is(text: str, line: int) -> None:
    [found] = found_in(text)
    assert found.startswith(f"line {line}:")


@pytest.mark.parametrize(
    "text",
    [
        "```\nmend the cause, then\n```",
        "Call `mend()` first.",
        "We recommend amendments.",
        "Retold.",
    ],
)
def test_code_and_longer_words_are_left_alone(text: str) -> None:
    assert found_in(text) == []
