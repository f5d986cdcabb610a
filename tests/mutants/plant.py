"""One plant: a mistake, where it is made, and who notices."""

import ast
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.symbols import file_of, spans


class BrokenPlant(Exception):
    """The plant itself is wrong: it says nothing of the tests."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A mistake to make, once, in one function, class or constant."""

    name: str
    #: What a user would suffer of it, in one sentence.
    breaks: str
    #: ``package:symbol``; the symbol is defined once in the package, wherever that is.
    where: str
    #: The text that is there; it occurs once in the symbol.
    find: str
    #: What stands there instead.
    replace: str
    #: The narrowest test that fails of it: a pytest node id.
    caught_by: str
    #: An import that the replacement needs; put at the end of the file, where it is in nobody's way.
    imports: str = ""

    @property
    def package(self) -> str:
        """The package in which it is, such as ``internals``."""
        return self.where.partition(":")[0].partition(".")[0]

    def file(self, root: Path) -> Path:
        """Return the file, from the root of this tree; raises `BrokenPlant`."""
        try:
            return file_of(root, self.where)
        except LookupError as error:
            raise BrokenPlant(str(error)) from error

    def mutated(self, source: str) -> str:
        """Return the file's text with the mistake in it.

        Raises `BrokenPlant` if the text is not exactly once in the symbol, if nothing is changed,
        or if what comes of it is no Python.
        """
        symbol = self.where.partition(":")[2]
        if len(found := spans(source, symbol)) != 1:
            raise BrokenPlant(f"{symbol!r} is defined {len(found)} times, not once")
        [(start, end)] = found
        if (times := source.count(self.find, start, end)) != 1:
            raise BrokenPlant(f"its text occurs {times} times in {symbol!r}, not once")
        if self.find == self.replace:
            raise BrokenPlant("it changes nothing")
        changed = source[start:end].replace(self.find, self.replace)
        mutated = source[:start] + changed + source[end:]
        if self.imports:
            mutated += f"\n\n{self.imports}\n"
        try:
            ast.parse(mutated)
        except SyntaxError as error:
            raise BrokenPlant(f"{symbol!r} is no Python any more: {error}") from error
        return mutated

    def put_into(self, root: Path) -> Path:
        """Make the mistake in this copy of the tree; returns the file; raises `BrokenPlant`."""
        file = self.file(root)
        path = root / file
        path.write_text(self.mutated(path.read_text()))
        return file
