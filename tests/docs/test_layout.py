"""The layout: a module holds one concept, so it is short and its functions are simple."""

from tests.conftest import ROOT

#: Lines that a module has at most.
_LONGEST = 300


def test_no_module_is_long() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for package in ("saga", "internals", "boundary")
        for path in (ROOT / package).rglob("*.py")
    }
    long = {path for path, lines in lengths.items() if lines > _LONGEST}
    assert long == set(), f"longer than {_LONGEST} lines: split by concept"
