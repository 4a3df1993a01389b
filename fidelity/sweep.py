"""Which learning rate, and how many steps?

    python fidelity/sweep.py --method full,lora --learning-rates 1e-4,2e-4 --steps 100,200

Measures as `run.py` does, on the subjects that are there for choosing. Each choice of method, rate and steps is a line
of `sweep.csv` in the output folder, and a line per subject of `sweep-subjects.csv`; a choice that is measured again
replaces its lines. `plots.py` draws them.

With `--checkpoints` the steps are those of one training per method and rate, at a constant rate, at which its model is
kept and measured: see `checkpoint_study.py`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

from benchmark import JUDGE_FOLDER, OUTPUT, measure, pocket_base, usable_cores
from checkpoint_study import Study, report, run_study, write_scores
from gallery import distractor_names
from prompts import prior_pictures
from result_tables import judge_line, means_table, row_estimates
from rich.console import Console
from subject_jobs import BASE_ROW
from summary import MEASURES
from trainings import METHODS, TrainingChoice
from worker_pool import JobFailedError, Workplace, worker_pool

from enlight.models.held_out import TUNING_SUBJECTS
from enlight.servicekit.errors import ServiceError
from enlight.torchkit.device import choose_device

ValueT = TypeVar("ValueT")

CHOICE_COLUMNS = tuple(field.name for field in fields(TrainingChoice))


def main() -> int:
    """Runs the sweep; returns the exit status."""
    console, arguments = Console(), _arguments()
    if arguments.checkpoints:
        return _study_checkpoints(arguments, console)
    subjects = TUNING_SUBJECTS[: arguments.subjects]
    choices = [
        TrainingChoice(method, rate, steps, scheduler, arguments.batch_size, rank if method.startswith("lora") else 0)
        for method, scheduler, rank, rate, steps in itertools.product(
            arguments.method,
            arguments.lr_schedulers,
            arguments.lora_ranks,
            arguments.learning_rates,
            arguments.steps,
        )
    ]
    choices = list(dict.fromkeys(choices))  # the rank makes a difference for LoRA only
    begun_s = time.monotonic()
    try:
        measurement = measure(
            {choice.name: {subject: choice.request(subject) for subject in subjects} for choice in choices},
            subjects,
            output=arguments.output,
            device=arguments.device,
            workers=arguments.workers,
            fresh=arguments.fresh,
            console=console,
        )
    except (JobFailedError, ServiceError) as error:
        console.print(f"[red]{error}[/red]")
        return 1
    console.print(judge_line(measurement))
    console.print(means_table(measurement, [BASE_ROW, *(choice.name for choice in choices)]))
    told = {"subjects": str(len(subjects)), "device": arguments.device, "judge": judge_line(measurement)}
    lines, subject_lines = [], []
    for choice in [None, *choices]:
        row = BASE_ROW if choice is None else choice.name
        described = _described(choice)
        estimates = row_estimates(measurement, row)
        numbers: dict[str, str] = {}
        for key, estimate in estimates.items():
            numbers |= {
                key: _text(estimate.mean),
                f"{key}_low": _text(estimate.low),
                f"{key}_high": _text(estimate.high),
            }
        lines.append(described | told | numbers)
        for subject, values in measurement.per_subject(row).items():
            subject_lines.append(
                described | {"subject": subject} | {key: _text(value) for key, value in values.items()}
            )
    keys = [measure.key for measure in MEASURES]
    bounds = [key + suffix for key in keys for suffix in ("", "_low", "_high")]
    summary = arguments.output / "sweep.csv"
    merge_csv(summary, (*CHOICE_COLUMNS, *told, *bounds), lines, CHOICE_COLUMNS)
    merge_csv(
        arguments.output / "sweep-subjects.csv",
        (*CHOICE_COLUMNS, "subject", *keys),
        subject_lines,
        (*CHOICE_COLUMNS, "subject"),
    )
    console.print(f"{time.monotonic() - begun_s:.0f} s. Written: {summary}")
    return 0


def _study_checkpoints(arguments: argparse.Namespace, console: Console) -> int:
    subjects, steps = TUNING_SUBJECTS[: arguments.subjects], tuple(sorted(arguments.steps))
    device = str(choose_device(arguments.device))
    targets = [picture.shows for subject in subjects for picture in prior_pictures(subject)]
    try:
        with worker_pool(Workplace(pocket_base(), JUDGE_FOLDER, device), arguments.workers, console) as pool:
            references = pool.references(list(dict.fromkeys([*distractor_names(), *subjects, *targets])))
            for method, rate in itertools.product(arguments.method, arguments.learning_rates):
                rank = arguments.lora_ranks[0] if method.startswith("lora") else 0
                choice = TrainingChoice(method, rate, steps[-1], "constant", arguments.batch_size, rank)
                studies = [Study(choice, steps, subject) for subject in subjects]
                found = {
                    study.subject: scores
                    for study, scores in pool.each(run_study, studies, references, lambda study: study.name)
                }
                console.print(f"[bold]{choice.name}[/bold]")
                in_order = {subject: found[subject] for subject in subjects}
                lines = report(in_order, console)
                stem = f"checkpoints-{method}-{rate:g}-{steps[-1]}"
                scores_file = write_scores(arguments.output / f"{stem}.csv", choice.name, in_order)
                rules_file = arguments.output / f"{stem}-rules.csv"
                merge_csv(rules_file, tuple(lines[0]), lines, ["rule"])
                console.print(f"Written: {scores_file}, {rules_file}")
    except (JobFailedError, ServiceError) as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0


def merge_csv(
    path: Path, columns: Sequence[str], lines: Sequence[Mapping[str, str]], key_columns: Sequence[str]
) -> None:
    """Adds lines to a CSV file; lines of the same key, in the file, are replaced."""

    def key(line: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(line.get(column, "") for column in key_columns)

    kept: list[Mapping[str, str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [line for line in csv.DictReader(file) if key(line) not in {key(new) for new in lines}]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*kept, *lines])


def _described(choice: TrainingChoice | None) -> dict[str, str]:
    if choice is None:
        return dict.fromkeys(CHOICE_COLUMNS, "") | {"method": BASE_ROW}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in asdict(choice).items()}


def _text(value: float) -> str:
    return f"{value:.6g}"


def _arguments() -> argparse.Namespace:
    def listed(kind: Callable[[str], ValueT]) -> Callable[[str], list[ValueT]]:
        return lambda text: [kind(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", type=listed(str), default=["full"], help=f"of {', '.join(METHODS)}")
    parser.add_argument("--learning-rates", type=listed(float), required=True)
    parser.add_argument("--steps", type=listed(int), required=True)
    parser.add_argument("--lr-schedulers", type=listed(str), default=["cosine"])
    parser.add_argument("--lora-ranks", type=listed(int), default=[8])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--subjects", type=int, default=len(TUNING_SUBJECTS), help="only the first so many")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes (one torch thread each)")
    parser.add_argument("--checkpoints", action="store_true", help="study the checkpoints of one long training")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have done")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.method) - set(METHODS))
    if unknown:
        parser.error(f"no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
