"""Blame: failures that were counted against a handler.

What the database refuses, and a connection that is lost, is no failure of a handler.  Here only those
who call out fail by themselves, and those with a bug, so any other failure that is counted is one too
many.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.breaking import Broken
from tests.chaos.charging import GatewayError
from tests.chaos.hanging import read_hung

_LOG = "blamed"


class _Notes(logging.Handler):
    """Hears what the framework says when it counts a failure, and writes it down."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.WARNING)
        self._file = folder / _LOG

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, GatewayError | Broken):
            with self._file.open("a") as file:
                file.write(f"{type(error).__name__}: {record.getMessage()}\n")


def note_blame(folder: Path) -> logging.Handler:
    """Write down in this folder what this process counts as a handler's failure."""
    notes = _Notes(folder)
    logging.getLogger("internals.hop.batch").addHandler(notes)
    return notes


def read_blame(folder: Path) -> Iterator[str]:
    """Iterate over what was written down."""
    file = folder / _LOG
    hung = read_hung(folder)
    for line in file.read_text().splitlines() if file.exists() else ():
        # One that hung, or was frozen, is rightly told that it took too long; those beside it are not.
        if not any(id in line for id in hung):
            yield line
