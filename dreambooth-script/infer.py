"""Makes pictures with a model that train.py trained, or with a plain base model, and puts them into Generation/.

It is dreambooth-api's own engine with one client: the same model, prompt and seed give the same pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import cast

from body_options import EPILOG, add_body_options
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from workplace import GENERATION, OUTPUT, WorkplaceError, base_models, read_settings, require_folders

from enlight.dreambooth_api.engine_process import supervise_engine
from enlight.dreambooth_api.generations import Generations
from enlight.dreambooth_api.requests import GenerationProgress, GenerationRequest, GenerationResult
from enlight.dreambooth_api.schemas import GenerationBody
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit import atomic_files
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.http_errors import invalid_field
from enlight.servicekit.process import Supervisor
from enlight.servicekit.settings import SettingsError
from enlight.servicekit.worker_service import STOP_GRACE_S


def main(arguments: list[str] | None = None) -> int:
    """Generates once; returns the exit status."""
    parser = argparse.ArgumentParser(prog="infer.py", description=__doc__, epilog=EPILOG)
    add_body_options(parser, GenerationBody)
    options = vars(parser.parse_args(arguments))
    console = Console()
    try:
        require_folders(OUTPUT, GENERATION)
        result = _generate(options, read_settings(), console)
        paths = _write(result)
    except (WorkplaceError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    except ServiceError as error:
        print(error.message, file=sys.stderr)
        return 1
    seeds = f"seeds {result.seed} to {result.seed + len(paths) - 1}" if len(paths) > 1 else f"seed {result.seed}"
    console.print(f"{', '.join(map(str, paths))}: {seeds}, {result.steps} steps", markup=False, soft_wrap=True)
    return 0


def _generate(options: dict[str, object], settings: Settings, console: Console) -> GenerationResult:
    try:
        body = GenerationBody.model_validate(options)
    except ValidationError as error:
        raise invalid_field(error) from error
    catalogue = base_models(settings)
    engine = supervise_engine(settings, catalogue)
    request = Generations(settings, catalogue, engine).from_generation_body(body)
    engine.start()
    try:
        return _run(engine, request, console)
    finally:
        engine.stop(STOP_GRACE_S)


def _run(engine: Supervisor, request: GenerationRequest, console: Console) -> GenerationResult:
    ticket = engine.submit(request)
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("loading the model", total=None, figures="")
        for event in ticket.events():
            progress = cast(GenerationProgress, event)
            # Pictures that wait for a later batch have none of their steps done.
            bar.update(
                task,
                description="generating",
                total=progress.images,
                completed=progress.images_done + progress.step / progress.steps,
                figures=f"step {progress.step} of {progress.steps}, {progress.images_done} of {progress.images} done",
            )
    return cast(GenerationResult, ticket.result())


def _write(result: GenerationResult) -> list[Path]:
    """Writes each picture under the next free number: no earlier picture is replaced."""
    stem = result.model_id.replace("/", "-")
    taken = {path.stem for path in GENERATION.iterdir()}
    free = (name for number in range(1, sys.maxsize) if (name := f"{stem}-{number:04d}") not in taken)
    paths = []
    for image in result.images:
        path = GENERATION / f"{next(free)}.{result.image_format}"
        atomic_files.write_bytes(path, image)
        paths.append(path)
    return paths


if __name__ == "__main__":
    sys.exit(main())
