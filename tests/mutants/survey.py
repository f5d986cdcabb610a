"""`python -m tests.mutants.survey FILE…`: change each file in every small way, and list what no test sees.

Unlike the plants, which are mistakes that somebody thought of, these are all changes of a few kinds:
a comparison the other way round, a condition negated, an argument or a statement left out.  Each is
tried in a fork of this process, in which the changed module is imported instead of the true one.
What is listed is judged by a person: it is the same in other words, or a test is missing.
"""

import argparse
import ast
import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

#: Where the tests of a module are looked for first.
TESTS = "tests/saga"

#: Seconds after which a change that goes round in a circle counts as seen.
_LONGEST = 180

#: What the tests import, and no change is made in.
_HEAVY = ("pydantic", "pydantic.main", "pydantic_core", "hypothesis", "hypothesis.strategies")

_OPPOSITES: dict[type[ast.AST], Callable[[], ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a module."""

    line: int
    before: str
    after: str
    tree: ast.Module


def changes(source: str) -> Iterator[Change]:
    """Iterate over the module with one change each."""
    tree = ast.parse(source)
    places = [node for node in ast.walk(tree) if not _only_told(tree, node)]
    for node in places:
        for before, after in _changed(node):
            yield Change(
                getattr(before, "lineno", getattr(node, "lineno", 0)),
                _shown(before),
                _shown(after),
                _replaced(tree, before, after),
            )


def _changed(  # noqa: PLR0912 - one branch for each kind of change
    node: ast.AST,
) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """Iterate over what may stand in the place of this, or of a part of it."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in _OPPOSITES:
            yield node, _with(node, ops=[_OPPOSITES[type(operator)]()])
        case ast.BoolOp(op=operator, values=values):
            yield node, _with(node, op=_OPPOSITES[type(operator)]())
            for value in values:
                yield node, _with(node, values=[v for v in values if v is not value])
        case ast.BinOp(op=operator) if type(operator) in _OPPOSITES:
            yield node, _with(node, op=_OPPOSITES[type(operator)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, operand
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield test, ast.UnaryOp(op=ast.Not(), operand=test)
        case ast.comprehension(ifs=ifs):
            for test in ifs:
                yield test, ast.Constant(value=True)
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                yield node, _with(node, keywords=[k for k in keywords if k is not keyword])
        case ast.Constant(value=bool(value)):
            yield node, ast.Constant(value=not value)
        case ast.Constant(value=int(value)):
            yield node, ast.Constant(value=value + 1)
        case ast.Break() | ast.Continue():
            yield node, _OPPOSITES[type(node)]()
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield node, ast.Return(value=ast.Constant(value=None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield node, ast.Pass()


def _only_told(tree: ast.Module, node: ast.AST) -> bool:
    """Whether it is part of what an error says, or of a type."""
    return id(node) in _told(tree)


def _told(tree: ast.Module, known: dict[int, set[int]] = {}) -> set[int]:  # noqa: B006 - kept
    if id(tree) not in known:
        told: set[int] = set()
        for node in ast.walk(tree):
            parts: list[ast.AST | None] = []
            if isinstance(node, ast.Raise):
                parts = [node.exc, node.cause]
            elif isinstance(node, ast.JoinedStr):
                parts = [node]
            elif isinstance(node, ast.AnnAssign):
                parts = [node.annotation]
            elif isinstance(node, ast.FunctionDef):
                parts = [
                    node.returns,
                    *(a.annotation for a in node.args.args + node.args.kwonlyargs),
                ]
            for part in parts:
                if part is not None:
                    told |= {id(below) for below in ast.walk(part)}
        known[id(tree)] = told
    return known[id(tree)]


def _with(node: ast.AST, **fields: object) -> ast.AST:
    made = type(node)(**{**dict(ast.iter_fields(node)), **fields})
    return ast.copy_location(made, node)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _shown(node: ast.AST | None) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(deepcopy(node))).split()) if node else ""


def _replaced(tree: ast.Module, before: ast.AST, after: ast.AST | None) -> ast.Module:
    class Replacing(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | None:
            if node is before:
                return after if after is None else ast.copy_location(after, before)
            fields = {}
            for name, value in ast.iter_fields(node):
                if isinstance(value, list):
                    fields[name] = [self.visit(v) if isinstance(v, ast.AST) else v for v in value]
                elif isinstance(value, ast.AST):
                    fields[name] = self.visit(value)  # type: ignore[assignment]
                else:
                    fields[name] = value
            return ast.copy_location(type(node)(**fields), node)  # the tree itself stays as it is

    changed = Replacing().visit(tree)
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module as it was changed."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        folder = [str(self._path.parent)] if self._path.stem == "__init__" else None
        return importlib.util.spec_from_file_location(
            fullname, self._path, loader=self, submodule_search_locations=folder
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def _module_of(path: Path) -> str:
    """The name that the module is imported by; a package has that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_seen(path: Path, change: Change, tests: Sequence[str]) -> bool:
    """Run the tests in a fork that has the change; whether one of them fails."""
    child = os.fork()
    if not child:
        try:
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            sys.meta_path.insert(0, _Changed(_module_of(path), path, change.tree))
            status = pytest.main(
                [
                    "-x",
                    "-q",
                    "--assert=plain",
                    "-p",
                    "no:cacheprovider",
                    "--confcutdir",
                    TESTS,
                    *tests,
                ]
            )
            os._exit(0 if status == 0 else 1)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _tests_of(path: Path) -> list[str]:
    """The tests, those of this module first; random ones last, since they take longest."""
    files = sorted(str(f.relative_to(ROOT)) for f in (ROOT / TESTS).rglob("test_*.py"))
    files = [f for f in files if "test_diagram" not in f]  # it starts processes of its own
    own = _module_of(path).split(".")[1:]
    return sorted(files, key=lambda f: ("properties" in f, -sum(name in f for name in own), f))


def main() -> int:
    """Run the command; 0 if all was tried, whatever was found: a person judges."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.survey", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="leave out the random tests")
    given = parser.parse_args()
    for heavy in _HEAVY:  # once, and not in each fork
        importlib.import_module(heavy)
    for file in given.files:
        path = file.resolve()
        tests = [t for t in _tests_of(path) if not (given.quick and "properties" in t)]
        source = path.read_text()
        if is_seen(path, Change(0, "", "", ast.parse(source)), tests):
            sys.stderr.write("The tests do not pass as they are, so they say nothing.\n")
            return 1
        tried = unseen = 0
        for change in changes(source):
            tried += 1
            if not is_seen(path, change, tests):
                unseen += 1
                where = f"{path.relative_to(ROOT)}:{change.line}"
                sys.stdout.write(f"{where}: {change.before}  ->  {change.after or '(left out)'}\n")
                sys.stdout.flush()
        sys.stdout.write(f"{path.relative_to(ROOT)}: {unseen} of {tried} changes were not seen\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
