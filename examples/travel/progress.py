"""The demo's progress bar."""

from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from examples.travel.record import Standing


class Progress:
    """Shows on stderr how many trips are over; nothing at all unless `shown`.

    On something that is no terminal a bar would only be noise: a line is written every tenth
    of the way.
    """

    def __init__(self, trips: int, *, shown: bool) -> None:
        self._trips = trips
        self._console = Console(stderr=True, quiet=not shown)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("[bold]Booking trips"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[kills]} workers killed"),
            rich.progress.TimeElapsedColumn(),
            console=self._console,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._bar.add_task("trips", total=trips, kills=0)
        self._tenths = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, standing: Standing, kills: int) -> None:
        """Show how far it is."""
        self._bar.update(self._task, completed=standing.booked, kills=kills)
        tenths = 10 * standing.booked // self._trips
        if not self._console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            self._console.print(
                f"{standing.booked:,} of {self._trips:,} trips are over, {kills} workers killed",
                highlight=False,
            )
