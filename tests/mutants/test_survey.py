"""The survey: a change is tried in the module that is imported, also where that is a package."""

import subprocess
import sys

import pytest

from tests.mutants.survey import ROOT, _module_of, _tests_of, changes


@pytest.mark.parametrize(
    ("file", "name"), [("saga/decide/__init__.py", "saga.decide"), ("saga/retry.py", "saga.retry")]
)
def test_a_module_has_the_name_that_it_is_imported_by(file: str, name: str) -> None:
    assert _module_of(ROOT / file) == name


_IS_SEEN = """
import ast
from tests.mutants.survey import ROOT, Change, is_seen

path, tests = ROOT / "saga/decide/__init__.py", ["tests/saga/decide/test_deadlines.py"]
sources = path.read_text(), path.read_text() + "raise RuntimeError('imported')"
print([is_seen(path, Change(0, "", "", ast.parse(source)), tests) for source in sources])
"""


def test_a_change_of_a_package_is_the_one_that_tests_import() -> None:
    """In a process of its own, which has not imported the true one."""
    ran = subprocess.run(
        [sys.executable, "-c", _IS_SEEN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[False, True]"


def test_the_tests_of_a_module_come_first_and_random_ones_last() -> None:
    tests = _tests_of(ROOT / "saga/decide/deadlines.py")
    assert tests[0] == "tests/saga/decide/test_deadlines.py"
    assert "properties" in tests[-1]


def test_a_file_is_changed_in_every_small_way() -> None:
    found = [(change.before, change.after) for change in changes("x = a < b and not c\n")]
    assert ("a < b", "a <= b") in found
    assert ("not c", "c") in found
    assert any(after == "a < b or not c" for _, after in found), found
