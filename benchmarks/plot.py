"""Plot the times of registering and finding the best by number of records."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

#: The rows of each panel: those of this project and those of the baselines.
_PANELS = {
    "register a checkpoint, durably": ("register a checkpoint", "register, in-process"),
    "find the best checkpoint": ("best checkpoint, lowest", "best, in-process"),
}
#: The color and marker of each line, readable on white and black and without colors.
_LINES = {
    "SQLite": ("#2f81f7", "o"),
    "PostgreSQL": ("#2da44e", "s"),
    "MLflow, log_batch": ("#d1621b", "^"),
    "MLflow, search_runs": ("#d1621b", "^"),
    "MLflow, metric history": ("#bf8700", "v"),
}
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_GRAY = "#808a94"

_Points = dict[str, dict[int, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="files written with --json")
    parser.add_argument("--output", type=Path, default=Path("docs/images/growth.svg"))
    chosen = parser.parse_args()
    rows = [row for file in chosen.results for row in json.loads(file.read_text())["rows"]]
    style = {
        "svg.hashsalt": "axon",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    with mpl.rc_context(
        {**style, "text.color": _GRAY, "axes.labelcolor": _GRAY, "axes.edgecolor": _GRAY}
    ):
        figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
        for panel, (title, names) in zip(panels, _PANELS.items(), strict=True):
            draw(panel, title, points(rows, *names))
        panels[0].set_ylabel("milliseconds, median")
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(chosen.output, transparent=True, metadata={"Date": None})


def points(rows: Iterable[dict[str, Any]], ours: str, beside: str) -> _Points:
    """Return the median seconds by number of checkpoints for each line."""
    found: _Points = defaultdict(dict)
    for row in rows:
        if row["what"] == ours:
            found[_NAMES[row["engine"]]][row["size"]] = row["ours"]["median"]
        elif row["what"] == beside and row["beside"] in _LINES:
            found[row["beside"]][row["size"]] = row["baseline"]["median"]
    return found


def draw(panel: Axes, title: str, lines: _Points) -> None:
    """Draw one panel with logarithmic axes."""
    for name, (color, marker) in _LINES.items():
        if name in lines:
            sizes = sorted(lines[name])
            medians = [lines[name][size] * 1000 for size in sizes]
            panel.plot(
                sizes, medians, color=color, marker=marker, markersize=4, linewidth=1.5, label=name
            )
    panel.set(xscale="log", yscale="log", title=title, xlabel="checkpoints of the notebook")
    panel.xaxis.set_major_formatter(lambda size, _place: f"{size:,.0f}")
    panel.yaxis.set_major_formatter(lambda milliseconds, _place: f"{milliseconds:g}")
    panel.minorticks_off()
    panel.tick_params(which="both", colors=_GRAY)
    panel.grid(color=_GRAY, alpha=0.25, linewidth=0.5)
    panel.legend(frameon=False, fontsize=8, labelcolor=_GRAY)


if __name__ == "__main__":
    main()
