"""Copies of the tree, in which mistakes can be made without harm."""

import compileall
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from py_compile import PycInvalidationMode

from tests.mutants.plant import Plant

#: What a copy does without, besides everything hidden and environments of whatever name.
_LEFT_OUT = frozenset({"__pycache__", "build", "dist", "node_modules"})


class Copy:
    """One copy: a mistake at a time is made in it, and taken back.

    Args:
        original: The root of the tree.
        root: Where the copy is made; it must not be there yet.
        environment: More variables for what runs in it, such as the servers' addresses.
    """

    def __init__(self, original: Path, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self._original = original
        shutil.copytree(original, root, ignore=_left_out)
        # Valid by what is in the source, not by its time: a mistake may be as long as what it
        # replaces, and be made within the same second.
        compileall.compile_dir(root, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        self.environment = {
            # A run may be part of another one, which has told pytest things of its own.
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            **environment,
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @contextmanager
    def planted(self, plant: Plant) -> Iterator[None]:
        """The mistake is there meanwhile, and taken back afterwards; raises `BrokenPlant`."""
        file = plant.put_into(self.root)
        try:
            yield
        finally:
            shutil.copy2(self._original / file, self.root / file)

    def foreign(self, packages: Iterable[str]) -> list[str]:
        """Return where these packages are imported from in this copy, if not from this copy.

        An installed package that goes before the copy would make every trial one of the original.
        """
        found = subprocess.run(
            [sys.executable, "-c", _WHENCE, *packages],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        own = self.root.resolve()
        paths = [Path(line).resolve() for line in found.stdout.splitlines()]
        return [str(path) for path in paths if not path.is_relative_to(own)]


_WHENCE = """
import importlib.util, sys
for name in sys.argv[1:]:
    print(importlib.util.find_spec(name).origin)
"""


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {
        name
        for name in names
        if name.startswith(".")
        or name in _LEFT_OUT
        or name.endswith(".egg-info")
        or Path(folder, name, "pyvenv.cfg").exists()
    }
