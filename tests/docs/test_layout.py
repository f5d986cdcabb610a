"""The layout: a module holds one concept, so it is short and its functions are simple."""

from tests.conftest import ROOT

#: Lines that a module has at most, and a module of tests.
_LONGEST, _LONGEST_OF_TESTS = 300, 400

#: Folders of tests that mirror no folder of the source.
_OF_THEIR_OWN = {"tests", "tests/chaos", "tests/docs", "tests/mutants", "tests/scenarios"}


def _longer_than(most: int, *packages: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if len(path.read_text().splitlines()) > most
    }


def test_no_module_is_long() -> None:
    long = _longer_than(_LONGEST, "saga", "internals", "boundary")
    assert long == set(), f"longer than {_LONGEST} lines: split by concept"


def test_no_module_of_tests_is_long() -> None:
    long = _longer_than(_LONGEST_OF_TESTS, "tests") - {"tests/conftest.py"}
    assert long == set(), f"longer than {_LONGEST_OF_TESTS} lines: split by concept"


def test_tests_mirror_the_source() -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    of_source = {path for path in folders if path.as_posix() not in _OF_THEIR_OWN}
    lost = {
        path.as_posix() for path in of_source if not (ROOT / path.relative_to("tests")).is_dir()
    }
    assert lost == set(), "the source has no such folder: move the tests to where their code is"
