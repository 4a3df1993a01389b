"""Draws the sweep: `python fidelity/plots.py`. Reads `sweep.csv`, writes a figure and a markdown table.

One column of panels per method: subject fidelity against prompt fidelity above, against the prior kept below. A line
joins the step counts of one learning rate. Right and up is better.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from benchmark import OUTPUT, ROOT
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console
from subject_jobs import BASE_ROW
from summary import MEASURES

FIGURE = ROOT / "docs" / "images" / "fidelity-sweep.png"
_PANEL_INCHES = (4.4, 3.6)
_PANELS = (("prompt_fidelity", "prompt fidelity, %"), ("prior_change", "prior kept, change in percentage points"))
_Colour = tuple[float, float, float, float]

Line = Mapping[str, str]
"""A line of `sweep.csv`."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, default=OUTPUT / "sweep.csv")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    parser.add_argument("--table", type=Path, default=OUTPUT / "sweep.md")
    arguments = parser.parse_args()
    lines = read_lines(arguments.sweep)
    draw(lines, arguments.figure)
    arguments.table.write_text(markdown(lines), encoding="utf-8")
    Console().print(f"Written: {arguments.figure}, {arguments.table}")


def read_lines(path: Path) -> list[Line]:
    """The lines of the sweep, by method, learning rate and steps."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return sorted(lines, key=lambda line: (_series(line), int(line["steps"] or 0)))


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draws every line but the base's, which is the starting point of all."""
    mpl.use("Agg")
    trained = [line for line in lines if line["method"] != BASE_ROW]
    methods = list(dict.fromkeys(_panel_title(line) for line in trained))
    rates = sorted({float(line["learning_rate"]) for line in trained})
    colours = {
        rate: plt.get_cmap("viridis")(0.9 * number / max(1, len(rates) - 1)) for number, rate in enumerate(rates)
    }
    size = (_PANEL_INCHES[0] * len(methods), _PANEL_INCHES[1] * len(_PANELS))
    figure, axes = plt.subplots(len(_PANELS), len(methods), figsize=size, squeeze=False, sharey=True, sharex="row")
    for row, (key, label) in enumerate(_PANELS):
        for column, method in enumerate(methods):
            panel = axes[row][column]
            of_method = [line for line in trained if _panel_title(line) == method]
            for rate in sorted({float(line["learning_rate"]) for line in of_method}):
                series = [line for line in of_method if float(line["learning_rate"]) == rate]
                _draw_series(panel, series, key, colours[rate], f"{rate:g}")
            panel.set_xlabel(label)
            panel.grid(alpha=0.25)
            if row == 0:
                panel.set_title(method)
                panel.legend(title="learning rate", fontsize=8, title_fontsize=8)
            if column == 0:
                panel.set_ylabel("subject fidelity, %")
    figure.suptitle("Beside the points: steps × batch. Thin lines: 95 % intervals over subjects.", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def markdown(lines: Sequence[Line]) -> str:
    """All lines as one table, means with their intervals."""
    keys = [measure for measure in MEASURES if any(line.get(measure.key) for line in lines)]
    head = ["method", "learning rate", "steps × batch", *(f"{m.title}, {m.unit}".rstrip(", ") for m in keys)]
    rows = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for line in lines:
        cells = [_panel_title(line), line["learning_rate"], f"{line['steps']} × {line['batch_size']}"]
        if line["method"] == BASE_ROW:
            cells = [BASE_ROW, "–", "–"]
        for measure in keys:
            if not line.get(measure.key):
                cells.append("–")
                continue
            mean, low, high = (float(line[measure.key + end]) for end in ("", "_low", "_high"))
            cells.append(f"{mean:.{measure.digits}f} [{low:.{measure.digits}f}, {high:.{measure.digits}f}]")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _draw_series(panel: Axes, series: Sequence[Line], key: str, colour: _Colour, label: str) -> None:
    across = [float(line[key]) for line in series]
    up = [float(line["subject_fidelity"]) for line in series]
    panel.plot(across, up, "o-", color=colour, label=label, markersize=5, linewidth=1.2)
    panel.errorbar(
        across,
        up,
        xerr=_reach(series, key, across),
        yerr=_reach(series, "subject_fidelity", up),
        fmt="none",
        ecolor=colour,
        elinewidth=0.6,
        alpha=0.35,
    )
    for x, y, line in zip(across, up, series, strict=True):
        label = f"{line['steps']}×{line['batch_size']}"
        panel.annotate(label, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)


def _reach(series: Sequence[Line], key: str, means: Sequence[float]) -> list[list[float]]:
    """How far the intervals reach down and up; a mean of one subject has none."""
    lows = [max(0.0, mean - float(line[f"{key}_low"])) for line, mean in zip(series, means, strict=True)]
    highs = [max(0.0, float(line[f"{key}_high"]) - mean) for line, mean in zip(series, means, strict=True)]
    return [lows, highs]


def _panel_title(line: Line) -> str:
    rank = f", rank {line['lora_rank']}" if line["method"].startswith("lora") else ""
    return f"{line['method']}{rank}, {line['lr_scheduler']}"


def _series(line: Line) -> tuple[bool, str, float]:
    return line["method"] != BASE_ROW, _panel_title(line), float(line["learning_rate"] or 0)


if __name__ == "__main__":
    main()
