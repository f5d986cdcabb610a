"""Progress: how far a long command is, on stderr: a bar on a terminal, now and then a line else."""

import sys
import time
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

#: Seconds between two lines where there is no terminal.
_BETWEEN_LINES = 10.0


class Progress:
    """Counts what is done, until the block ends.

    Args:
        what: Said before the count, such as "replayed".
        total: How many there are.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._count = 0
        self._told = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty() and total > 1:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self._count += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
        elif time.monotonic() - self._told >= _BETWEEN_LINES:
            self._told = time.monotonic()
            typer.echo(f"{self._what} {self._count:,} of {self._total:,}", err=True)
