"""The results as tables: on the terminal, as markdown, as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmark import Measurement
from intervals import Estimate
from prompts import DIVERSITY_SCENES, SCENES
from protocol import DENOISING_STEPS, DISTRACTORS, EXTRA_SEEDS, GUIDANCE_SCALE
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from summary import MEASURES, Measure, estimates


def row_estimates(measurement: Measurement, row: str) -> dict[str, Estimate]:
    """The measures of one row of the table."""
    return estimates(list(measurement.per_subject(row).values()))


def print_table(console: Console, measurement: Measurement, rows: Sequence[str]) -> None:
    """Shows the judge's accuracy and the table, a column for each row of the measurement."""
    console.print(judge_line(measurement))
    table = Table(title="Means over subjects, with 95 % intervals")
    table.add_column("")
    for row in rows:
        table.add_column(row, justify="right")
    for title, cells in _lines(measurement, rows):
        table.add_row(title, *(escape(cell) for cell in cells))
    console.print(table)


def means_table(measurement: Measurement, rows: Sequence[str]) -> Table:
    """Means only, a line for each row of the measurement: for many rows."""
    table = Table()
    table.add_column("", no_wrap=True)
    for measure in MEASURES:
        table.add_column(_heading(measure), justify="right")
    for row in rows:
        cells = row_estimates(measurement, row)
        means = (
            f"{cells[measure.key].mean:.{measure.digits}f}" if measure.key in cells else "–" for measure in MEASURES
        )
        table.add_row(row, *means)
    return table


def judge_line(measurement: Measurement) -> str:
    """What the judge itself gets right."""
    judge = measurement.judge
    return (
        f"The judge on {judge.renders} real renders of these subjects: names the subject among {DISTRACTORS} others "
        f"in {judge.subjects:.1f} % ({judge.small_subjects:.1f} % of as many small ones), the background in "
        f"{judge.backgrounds:.1f} %."
    )


def write_markdown(path: Path, measurement: Measurement, rows: Sequence[str], elapsed_s: float) -> Path:
    """The table for the documentation."""
    subjects = len({job.subject for job in measurement.jobs})
    lines = [
        f"| {' | '.join(['', *rows])} |",
        f"| --- |{' ---: |' * len(rows)}",
        *(f"| {' | '.join([title, *cells])} |" for title, cells in _lines(measurement, rows)),
    ]
    extra = EXTRA_SEEDS * len(DIVERSITY_SCENES)
    priors = len(measurement.jobs[0].prior)
    command = f"FIDELITY_SUBJECTS={subjects} FIDELITY_PRESETS={','.join(rows[1:])} make fidelity"
    earlier = f" after an earlier run had done {measurement.found_done} jobs" if measurement.found_done else ""
    text = "\n".join(
        [
            f"`{command}`, {elapsed_s:.0f} s{earlier}.",
            "",
            *lines,
            "",
            f"{subjects} subjects; for each {len(SCENES)} prompts with one picture each, {extra} more pictures for "
            f"diversity, {priors} pictures of other objects; {DENOISING_STEPS} denoising steps, guidance "
            f"{GUIDANCE_SCALE:g}. Means over subjects, in brackets 95 % bootstrap intervals over subjects.",
            judge_line(measurement),
            "",
        ]
    )
    path.write_text(text, encoding="utf-8")
    return path


def write_subjects_csv(path: Path, measurement: Measurement, rows: Sequence[str]) -> Path:
    """One line per row and subject."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "subject", *(measure.key for measure in MEASURES)])
        for row in rows:
            for subject, values in measurement.per_subject(row).items():
                writer.writerow([row, subject, *(_number(values.get(measure.key)) for measure in MEASURES)])
    return path


def _lines(measurement: Measurement, rows: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """A line per measure: rows are few and intervals are wide."""
    columns = [row_estimates(measurement, row) for row in rows]
    for measure in MEASURES:
        yield _heading(measure), [_cell(column, measure) for column in columns]


def _heading(measure: Measure) -> str:
    return f"{measure.title}, {measure.unit}" if measure.unit else measure.title


def _cell(cells: Mapping[str, Estimate], measure: Measure) -> str:
    estimate = cells.get(measure.key)
    if estimate is None:
        return "–"
    sign = "+" if measure.unit == "pp" else ""
    mean, low, high = (f"{value:{sign}.{measure.digits}f}" for value in (estimate.mean, estimate.low, estimate.high))
    return mean if math.isnan(estimate.low) else f"{mean} [{low}, {high}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
