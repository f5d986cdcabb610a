"""One plant: a mistake, where it is made, and who notices."""

import ast
from dataclasses import dataclass
from pathlib import Path


class BrokenPlant(Exception):
    """The plant itself is wrong: it says nothing of the tests."""


@dataclass(frozen=True, slots=True)
class Plant:
    """A mistake to make, once, in one file."""

    name: str
    #: What a user would suffer of it, in one sentence.
    breaks: str
    #: The file, from the root of the tree.
    file: str
    #: The text that is there; it occurs once.
    find: str
    #: What stands there instead.
    replace: str
    #: The narrowest test that fails of it: a pytest node id.
    caught_by: str
    #: An import that the replacement needs; put at the end of the file, where it is in nobody's way.
    imports: str = ""

    def mutated(self, source: str) -> str:
        """Return the file's text with the mistake in it.

        Raises `BrokenPlant` if the text is not there exactly once, if nothing is changed, or if
        what comes of it is no Python.
        """
        if (times := source.count(self.find)) != 1:
            raise BrokenPlant(f"its text occurs {times} times in {self.file}, not once")
        if self.find == self.replace:
            raise BrokenPlant("it changes nothing")
        mutated = source.replace(self.find, self.replace)
        if self.imports:
            mutated += f"\n\n{self.imports}\n"
        try:
            ast.parse(mutated, self.file)
        except SyntaxError as error:
            raise BrokenPlant(f"{self.file} is no Python any more: {error}") from error
        return mutated

    def put_into(self, root: Path) -> None:
        """Make the mistake in this copy of the tree; raises `BrokenPlant`."""
        path = root / self.file
        if not path.is_file():
            raise BrokenPlant(f"there is no {self.file}")
        path.write_text(self.mutated(path.read_text()))
