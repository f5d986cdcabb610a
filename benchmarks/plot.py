"""Plot: throughput and idle latency of all peers, with each repeat as a point."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from benchmarks.results import Results

_PANELS = (
    ("Sagas a second, busy", (("ok", "ok_per_second"), ("undone", "undone_per_second"))),
    ("Milliseconds a saga, idle: p50", (("ok", "ok_p50_ms"), ("undone", "undone_p50_ms"))),
    ("Milliseconds a saga, idle: p99", (("ok", "ok_p99_ms"), ("undone", "undone_p99_ms"))),
)
_COLOURS = ("#1f6f8b", "#c8963e", "#8a8a8a", "#7a5195")


def plot(results: "Results", path: Path) -> None:
    """Write the plot as a PNG."""
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(13, 4.2), layout="constrained")
    for axis, (title, pairs) in zip(axes, _PANELS, strict=True):
        _draw(axis, results, title, pairs)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw(axis: Any, results: "Results", title: str, pairs: tuple[tuple[str, str], ...]) -> None:
    width = 0.8 / len(results.peers)
    for place, (name, measured) in enumerate(results.peers.items()):
        for group, (_, key) in enumerate(pairs):
            x = group + (place - (len(results.peers) - 1) / 2) * width
            height = measured.median(key)
            label = name if group == 0 else None
            colour = _COLOURS[place % len(_COLOURS)]
            axis.bar(x, height, width * 0.92, color=colour, label=label)
            repeats = [run[key] for run in measured.runs]
            axis.plot([x] * len(repeats), repeats, ".", color="#222222", markersize=4)
            axis.annotate(
                f"{height:,.0f}",
                (x, max([height, *repeats])),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axis.set_title(title, fontsize=11)
    axis.set_xticks(range(len(pairs)), [label for label, _ in pairs])
    axis.margins(y=0.12)
    axis.spines[["top", "right"]].set_visible(False)
