"""The tally: how often each fault really struck, counted by whoever saw it strike.

Processes are killed here, so a strike is written down, with one atomic append, before its
consequences follow.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path


class Tally:
    """Shared by all processes of a run through its folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tally"
        self._storm = folder / "storm"

    def struck(self, fault: str) -> None:
        """Count one strike."""
        line = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(line, f"{fault}\n".encode())
        finally:
            os.close(line)

    def read(self) -> Mapping[str, int]:
        """Return the strikes so far, by fault."""
        if not self._file.exists():
            return Counter()
        return Counter(self._file.read_text().split())

    @property
    def stormy(self) -> bool:
        """Whether faults may strike now; after the storm everything is left alone to drain."""
        return self._storm.exists()

    def begin_storm(self) -> None:
        self._storm.touch()

    def end_storm(self) -> None:
        self._storm.unlink(missing_ok=True)
