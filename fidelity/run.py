"""The benchmark: does the trained model give this subject in that scene? `make fidelity`, or
`python fidelity/run.py --subjects 5 --presets seed,recommended`.

Trains on photos of subjects that no bundled model was trained on, with each preset, through the service's trainer;
lets the bundled judge look at the pictures. Writes the table, a CSV of the subjects and a contact sheet to
`fidelity-output/`. A run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmark import OUTPUT, measure, usable_cores
from preset_requests import preset_request
from pydantic import Field
from pydantic_settings import SettingsConfigDict
from result_tables import print_table, write_markdown, write_subjects_csv
from rich.console import Console
from sheet import write_contact_sheet
from subject_jobs import BASE_ROW
from worker_pool import JobFailedError

from enlight.models.held_out import TEST_SUBJECTS
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.settings import ServiceSettings, SettingsError, load_settings


class FidelitySettings(ServiceSettings):
    """Defaults of the command line, from the environment."""

    model_config = SettingsConfigDict(env_prefix="FIDELITY_")

    subjects: int = Field(len(TEST_SUBJECTS), ge=1, le=len(TEST_SUBJECTS), description="Only the first so many.")
    presets: str = Field("seed,recommended", description="Rows of the table besides `base`, with commas between.")


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    console = Console()
    try:
        settings = load_settings(FidelitySettings)
    except SettingsError as error:
        raise SystemExit(str(error)) from error
    arguments = _arguments(settings)
    subjects = TEST_SUBJECTS[: arguments.subjects]
    presets = [name for name in arguments.presets.split(",") if name]
    begun_s = time.monotonic()
    try:
        measurement = measure(
            {preset: {subject: preset_request(preset, subject) for subject in subjects} for preset in presets},
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
    elapsed_s = time.monotonic() - begun_s
    rows = [BASE_ROW, *presets]
    print_table(console, measurement, rows)
    files = [
        write_markdown(arguments.output / "table.md", measurement, rows, elapsed_s),
        write_subjects_csv(arguments.output / "subjects.csv", measurement, rows),
        write_contact_sheet(arguments.output / "contact-sheet.png", measurement, rows[-1]),
    ]
    console.print(f"{elapsed_s:.0f} s. Written: {', '.join(str(file) for file in files)}")
    return 0


def _arguments(settings: FidelitySettings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=settings.subjects, help="only the first so many test subjects")
    parser.add_argument("--presets", default=settings.presets, help="rows besides base, with commas between")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes (one torch thread each)")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have done")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
