"""Upscaling 256 -> 1024 on the CPU: the plain spandrel call against our pass, in turns; the outputs must be equal.

``python realesrgan/benchmarks/on_two_cores.py`` (about three minutes on 2 cores)
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from spandrel import ImageModelDescriptor, ModelLoader
from torch import nn

from enlight.realesrgan.memory import default_budget_bytes
from enlight.realesrgan.models import MODELS
from enlight.realesrgan.networks import staged
from enlight.realesrgan.pure.passes import Budget, budget_values, canvas_pixels, new_canvas, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import Size
from enlight.realesrgan.pure.staged_networks import StagedNetwork

Pixels = NDArray[np.uint8]
SAMPLE = "astronaut"
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "models" / "realesrgan"
MODEL_NAMES = ("RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "realesr-animevideov3")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side-px", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=MODEL_NAMES, choices=MODEL_NAMES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    side = arguments.side_px
    photo = np.asarray(getattr(skimage.data, SAMPLE)(), np.uint8)
    pixels = np.asarray(cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    rows = []
    print("| model | spandrel | ours | ratio | largest difference, levels |\n|---|---|---|---|---|")
    for name in arguments.models:
        path = FOLDER / MODELS[name].files[0].name
        plain = ModelLoader().load_from_file(path)
        assert isinstance(plain, ImageModelDescriptor)
        plain.eval()
        ours = staged(ModelLoader().load_from_file(path).model.eval(), device=device, dtype=torch.float32)
        assert ours is not None
        out = Size(side * ours.scale, side * ours.scale)
        budget = budget_values(default_budget_bytes(device), torch.float32)

        def by_spandrel(plain: ImageModelDescriptor[nn.Module] = plain) -> Pixels:
            given = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
            result = plain(given)[0].permute(1, 2, 0)
            return np.asarray((result * 255).round().to(torch.uint8).numpy(), np.uint8)

        def by_us(ours: StagedNetwork = ours, out: Size = out, budget: Budget = budget) -> Pixels:
            canvas = new_canvas(out, is_16_bit=False, device=device)
            given = to_tensor(pixels, device=device, dtype=torch.float32)
            run_pass(ours, given, out, budget=budget, check=lambda: None, canvas=canvas)
            return np.asarray(canvas_pixels(canvas), np.uint8)

        sides: tuple[Callable[[], Pixels], Callable[[], Pixels]] = (by_spandrel, by_us)
        times: tuple[list[float], list[float]] = ([], [])
        with torch.inference_mode():
            difference = int(np.abs(by_spandrel().astype(int) - by_us()).max())
            for _ in range(arguments.repeats):
                for spent, call in zip(times, sides, strict=True):
                    began_s = time.perf_counter()
                    call()
                    spent.append(time.perf_counter() - began_s)
        medians = [statistics.median(spent) for spent in times]
        ratio = medians[0] / medians[1]
        print(f"| {name} | {medians[0]:.2f} s | {medians[1]:.2f} s | {ratio:.2f}x | {difference} |", flush=True)
        rows.append(
            {"model": name, "peer_s": medians[0], "ours_s": medians[1], "ratio": ratio, "difference": difference}
        )
    print(f"\n{side} -> {side * 4}, {arguments.threads} threads, torch {torch.__version__}, medians, in turns")
    if arguments.json:
        arguments.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
