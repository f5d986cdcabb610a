"""Where a symbol is defined: found by its name, so that code can move and grow around it.

A symbol is a function, a class or a constant of a module, or one of a class: ``finish``,
``Hop.run``, ``CLAIM``.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def file_of(root: Path, where: str) -> Path:
    """Return the file, from the root, that defines ``package:symbol``; a module will do too.

    Raises `LookupError` if none does, or several do.
    """
    package, _, symbol = where.partition(":")
    top = root.joinpath(*package.split("."))
    candidates = [top.with_suffix(".py"), *sorted(top.rglob("*.py"))]
    found = [
        path.relative_to(root)
        for path in candidates
        if path.is_file() and spans(path.read_text(), symbol)
    ]
    if not found:
        raise LookupError(f"there is no {symbol!r} in {package}")
    if len(found) > 1:
        raise LookupError(f"{symbol!r} is in {found[0]} and in {found[1]}: name a smaller package")
    return found[0]


def spans(text: str, symbol: str) -> list[tuple[int, int]]:
    """Return from where to where in the text of a module the symbol is defined, in whole lines."""
    if not all(part in text for part in symbol.split(".")):
        return []  # most modules, which need not be parsed
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    return [(lines[first - 1], lines[last]) for name, first, last in _of(text) if name == symbol]


@cache
def _of(text: str) -> list[tuple[str, int, int]]:
    return list(_inside(ast.parse(text).body, ""))


def _inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, int, int]]:
    """Iterate over the names of what is defined, with the numbers of its first and last line."""
    for node in body:
        last = node.end_lineno or node.lineno
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                yield prefix + node.name, first, last
                if isinstance(node, ast.ClassDef):
                    yield from _inside(node.body, f"{prefix}{node.name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name, node.lineno, last
