"""Draws the p99 of each run of status_reads.py, before and now, as ``status-reads.png`` in the folder ``--out``.

python main-api/benchmarks/status_reads_plot.py --out docs/images "2 cores=here.json" "server=server.json"
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

GOAL_MS = 25
COLOURS = {"before": "#bbbbbb", "now": "#4477aa"}


def main() -> None:
    """Reads the results named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="NAME=FILE: a machine, and the --json of status_reads.py there")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = read_rows(arguments.results)
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.4))
    for place, p99s_ms in enumerate(rows.values()):
        for code, values_ms in p99s_ms.items():
            axes.plot(values_ms, [place] * len(values_ms), "o", color=COLOURS[code], alpha=0.8)
    for code, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=code)
    axes.axvline(GOAL_MS, color="#cc3311", linewidth=1.5, label=f"goal, {GOAL_MS} ms")
    axes.set_xscale("log")
    axes.set_xticks([10, 25, 50, 100, 250, 1000, 2000], ["10", "25", "50", "100", "250", "1,000", "2,000"])
    axes.minorticks_off()
    axes.set_yticks(list(range(len(rows))), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel("p99 of each run at 1,000 reads a second, ms")
    axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(arguments.out / "status-reads.png", dpi=120)
    print(f"wrote {arguments.out / 'status-reads.png'}")


def read_rows(results: list[str]) -> dict[str, dict[str, list[float]]]:
    """The p99s in ms by machine and gateways, and by code; two gateways first."""
    rows: dict[str, dict[str, list[float]]] = {}
    for name, file in (result.split("=", 1) for result in results):
        for measured in json.loads(Path(file).read_text()):
            gateways = "1 gateway" if measured["gateways"] == 1 else f"{measured['gateways']} gateways"
            values_ms = [run["latencies"]["p99_ms"] for run in measured["runs"]]
            rows.setdefault(f"{gateways}, {name}", {}).setdefault(measured["code"], []).extend(values_ms)
    return dict(sorted(rows.items(), reverse=True))


if __name__ == "__main__":
    main()
