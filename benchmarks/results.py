"""Results: what a run came to, as a table, as JSON, as Markdown and as a plot."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import DETAILS, FIGURES, Measured, Size


@dataclass(frozen=True, slots=True)
class Results:
    """All peers of one run."""

    #: The machine, the servers and the packages.
    machine: Mapping[str, str]
    size: Size
    peers: Mapping[str, Measured]

    def as_json(self) -> dict[str, Any]:
        """Return the medians of each peer, and what a reader needs to know about them."""
        figures = {name: measured.figures() for name, measured in self.peers.items()}
        return {
            **figures,
            "about": {
                **self.machine,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "repeats": self.size.repeats,
                "busy": self.size.busy,
                "idle": self.size.idle,
                "configurations": {n: m.configuration for n, m in self.peers.items()},
                "ratios": self.ratios(),
                "details": {
                    name: {detail: measured.median(detail) for detail in DETAILS}
                    for name, measured in self.peers.items()
                },
            },
        }

    def ratios(self) -> dict[str, dict[str, float]]:
        """Return how many times as many sagas a second ours does."""
        ours = self.peers["saga"]
        return {
            name: {
                figure: round(ours.median(figure) / measured.median(figure), 2)
                for figure in ("ok_per_second", "undone_per_second")
            }
            for name, measured in self.peers.items()
            if name != "saga"
        }

    def json(self) -> str:
        return json.dumps(self.as_json(), indent=2) + "\n"

    def write(self, folder: Path) -> None:
        """Write `latest.json`, `latest.md` and, where matplotlib is installed, `latest.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "latest.json").write_text(self.json())
        (folder / "latest.md").write_text(self._markdown())
        try:
            from benchmarks.plot import plot  # noqa: PLC0415 - matplotlib is in an extra
        except ImportError:
            return
        plot(self, folder / "latest.png")

    def print(self, console: Console) -> None:
        for name, value in self.machine.items():
            console.print(f"[dim]{name}:[/dim] {value}", highlight=False)
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column("median")
        for name in self.peers:
            table.add_column(name, justify="right")
        for figure in (*FIGURES, *DETAILS):
            medians = (measured.median(figure) for measured in self.peers.values())
            table.add_row(figure, *(f"{value:,.2f}" for value in medians))
        console.print(table)
        for name, ratio in self.ratios().items():
            console.print(
                f"saga / {name}: {ratio['ok_per_second']} (undone "
                f"{ratio['undone_per_second']}) times as many a second",
                highlight=False,
            )

    def _markdown(self) -> str:
        lines = ["# Latest results", "", "Written by `python -m benchmarks.throughput`.", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += [f"- {name}: {measured.configuration}" for name, measured in self.peers.items()]
        lines += [
            f"- medians of {self.size.repeats} runs in turns; {self.size.busy:,} sagas at once, "
            f"{self.size.idle} one by one (a slow peer: fewer)",
            "",
            "| | " + " | ".join(self.peers) + " |",
            "|---|" + "---:|" * len(self.peers),
        ]
        for figure in (*FIGURES, *DETAILS):
            medians = (f"{measured.median(figure):,.2f}" for measured in self.peers.values())
            lines.append(f"| {figure} | " + " | ".join(medians) + " |")
        lines += [""]
        for name, ratio in self.ratios().items():
            lines.append(
                f"saga / {name}: {ratio['ok_per_second']} (ok), "
                f"{ratio['undone_per_second']} (undone) times as many sagas a second.  "
            )
        return "\n".join(lines) + "\n"
