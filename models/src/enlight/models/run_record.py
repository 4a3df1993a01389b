"""What every training script shares: its clock, its loss record and its checkpoint files."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from enlight.models.settings import RecipeSettings, tiny

_log = logging.getLogger(__name__)


@dataclass
class Clock:
    """Stops a run in time to save and return."""

    limit_s: float
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of this run."""
        return time.monotonic() - self.started_s

    @property
    def share(self) -> float:
        """Elapsed share of the limit, from 0 to 1."""
        return min(1.0, self.elapsed_s / self.limit_s)

    @property
    def over(self) -> bool:
        """True when the run must stop."""
        return self.elapsed_s >= self.limit_s


def learning_rate_share(clock: Clock, step: int, warmup_steps: int, decay_share: float) -> float:
    """The learning rate as a share of its peak: linear warm-up in steps, linear decay at the end in time."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    if decay_share <= 0:
        return warm
    return warm * min(1.0, max(0.02, (1.0 - clock.share) / decay_share))


def timed_steps(first_step: int, clock: Clock) -> Iterator[tuple[int, bool]]:
    """Numbers the steps until the clock is over, behind a progress bar on a terminal.

    Yields:
        (step, whether it is the last one).
    """
    columns = (BarColumn(), TextColumn("step {task.fields[step]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("", total=clock.limit_s, step=first_step)
        for step in itertools.count(first_step):
            last = clock.over
            yield step, last
            progress.update(bar, completed=clock.elapsed_s, step=step)
            if last:
                return


class LossRecord:
    """Appends rows of losses to a CSV file, over all the runs of a training."""

    def __init__(self, path: Path) -> None:
        """Opens the record; an existing file is continued."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def add(self, **values: float) -> None:
        """Writes one row and logs it; the first row ever decides the columns."""
        fresh = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(values)
            writer.writerow([f"{value:.6g}" for value in values.values()])
        _log.info("%s %s", self._path.stem, " ".join(f"{key}={value:.5g}" for key, value in values.items()))


def save_weights(path: Path, module: nn.Module | Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Writes a module's weights (integers keep their type), atomically."""
    state = module.state_dict() if isinstance(module, nn.Module) else module
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous().clone()
        for name, tensor in state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


def load_weights(path: Path, module: nn.Module) -> bool:
    """Reads weights into a module; False when the file does not exist.

    Raises:
        RuntimeError: the file belongs to another architecture.
    """
    if not path.exists():
        return False
    target = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: tensor.to(target[name]) for name, tensor in load_file(path).items()})
    return True


def read_state(path: Path) -> dict[str, float]:
    """Reads the small JSON record beside a checkpoint: steps and seconds so far."""
    if not path.exists():
        return {}
    return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}


def write_state(path: Path, **values: float) -> None:
    """Writes the record that `read_state` reads."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def training_arguments(description: str | None) -> argparse.ArgumentParser:
    """The command-line arguments that all training scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bank", type=Path, required=True, help="folder that enlight.models.bank wrote")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints, losses and grids")
    parser.add_argument("--time-limit-s", type=float, required=True, help="stop and save after this many seconds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=8, help="processes that draw backgrounds")
    parser.add_argument("--decay-share", type=float, default=0.3, help="share of the time in which the rate falls")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to try the script on a CPU")
    return parser


def settings_of(arguments: argparse.Namespace) -> RecipeSettings:
    """The recipe that the command line asks for."""
    return tiny(RecipeSettings()) if arguments.tiny else RecipeSettings()


def prepare(device: str) -> torch.device:
    """Sets up logging and the fast float32 matrix mode; returns the device."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch.device(device)
