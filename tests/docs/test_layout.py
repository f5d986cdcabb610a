"""The layout: a module holds one concept, so it is short and its functions are simple."""

from tests.conftest import ROOT

#: Lines that a module has at most.
_LONGEST = 300

#: Modules that are longer still.  A new one is split; none is added here.
_LONGER = frozenset(
    {
        "internals/hop/batch.py",
        "internals/hop/context_consumer.py",
        "internals/hop/lease.py",
        "internals/hop/time_limits.py",
        "internals/remote/returning.py",
        "internals/store/inbox.py",
        "internals/store/sql/__init__.py",
        "saga/decide/__init__.py",
        "saga/decide/next_steps.py",
        "saga/testing.py",
    }
)


def test_no_module_is_long() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for package in ("saga", "internals", "boundary")
        for path in (ROOT / package).rglob("*.py")
    }
    long = {path for path, lines in lengths.items() if lines > _LONGEST}
    assert long - _LONGER == set(), f"longer than {_LONGEST} lines: split by concept"
    assert _LONGER - long == set(), "short enough by now, or gone: take it off the list"
