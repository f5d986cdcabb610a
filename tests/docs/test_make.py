"""The Makefile: each target that a page names is there, and groups say what they know."""

import importlib.util
import re
import subprocess
from itertools import chain

import pytest

from tests.conftest import ROOT
from tests.docs.test_pages import PAGES

_MAKEFILE = (ROOT / "Makefile").read_text()
_BENCHES = re.findall(r"^bench\.(\w+) =", _MAKEFILE, re.MULTILINE)
_COVERAGES = re.findall(r"^coverage\.(\w+) =", _MAKEFILE, re.MULTILINE)
_DEMOS = re.findall(r"^demo\.(\w+) =", _MAKEFILE, re.MULTILINE)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What make would run; `--old-file` has it leave the environment alone."""
    return subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--old-file", ".venv/.installed", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_targets_that_pages_name_exist() -> None:
    named = {
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)
    }
    targets = re.findall(r"^([a-z-]+):.*## ", _MAKEFILE, re.MULTILINE)
    assert len(named) > 10
    assert sorted((page, target) for page, target in named if target not in targets) == []


def test_what_pages_ask_a_group_for_exists() -> None:
    named = set(
        chain.from_iterable(
            re.findall(r"make (bench|coverage|demo) WHAT=(\w+)", page.read_text()) for page in PAGES
        )
    )
    groups = {"bench": _BENCHES, "coverage": _COVERAGES, "demo": _DEMOS}
    known = {(group, what) for group, all_of_it in groups.items() for what in all_of_it}
    assert named
    assert named <= known


@pytest.mark.parametrize(
    ("group", "what"),
    [*(("bench", what) for what in _BENCHES), ("demo", "flask"), ("demo", "django")],
)
def test_each_of_a_group_runs_a_module_that_is_there(group: str, what: str) -> None:
    ran = make(group, f"WHAT={what}")
    module = re.search(r"-m ((?:benchmarks|examples)[\w.]*)", ran.stdout)
    assert module is not None, ran.stderr
    assert importlib.util.find_spec(module.group(1)) is not None


def test_the_demo_is_the_trips_unless_another_is_asked_for() -> None:
    ran = make("demo", "DEMO=--disruption")
    assert ran.stdout.split()[-2:] == ["demo", "--disruption"]


@pytest.mark.parametrize(
    ("group", "known"), [("bench", _BENCHES), ("coverage", _COVERAGES), ("demo", _DEMOS)]
)
def test_what_is_unknown_is_refused_in_one_sentence(group: str, known: list[str]) -> None:
    ran = make(group, "WHAT=nonsense")
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert f"make {group}: WHAT=nonsense is unknown; it is one of: " in line
    assert all(re.search(rf"\b{what}\b", line) for what in known)
