"""Pictures from text, from pictures and from masked pictures at full size on a GPU, against diffusers' pipelines.

``python dreambooth-api/benchmarks/from_images_on_gpu.py --json FILE``: the same random Stable Diffusion 2.1 in half
precision on both sides (speed does not depend on the values of the weights), by turns in one process. Prints how far
the pictures are apart and how long each side takes.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from random_stable_diffusion import write_random_sd21

from enlight.dreambooth_api.init_images import first_step
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.pure.starts import InitImages
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases

GPU = torch.device("cuda:0")
STEPS = 50
GUIDANCE = 7.5
KINDS: dict[str, tuple[type[Any], float | None, bool]] = {
    "text": (StableDiffusionPipeline, None, False),
    "image, strength 0.8": (StableDiffusionImg2ImgPipeline, 0.8, False),
    "masked image, strength 1.0": (StableDiffusionInpaintPipeline, 1.0, True),
    "masked image, strength 0.6": (StableDiffusionInpaintPipeline, 0.6, True),
}


def main() -> None:
    """Prints a row for each kind, size and number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_random_sd21(Path(folder) / "base")
        gc.collect()
        torch.cuda.empty_cache()
        base = Base("random", None, Path(folder) / "base", 768, STEPS, 256, 1536)
        resident = ResidentBases(GPU, 1).get(base)
        load: Any = StableDiffusionPipeline.from_pretrained
        pipeline = load(str(base.folder), torch_dtype=torch.float16, local_files_only=True).to(GPU)
        print(f"{torch.cuda.get_device_name(GPU)}, torch {torch.__version__}, {STEPS} steps", flush=True)
        for (kind, size_px), count in itertools.product(itertools.product(KINDS, (512, 768)), (1, 4)):
            sides = _sides(resident, pipeline, kind, size_px, count)
            rows.append({"kind": kind, "size_px": size_px, "pictures": count, **_measure(sides, arguments.rounds)})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


Side = Callable[[], NDArray[np.uint8]]


def _sides(resident: ResidentBase, pipeline: Any, kind: str, size_px: int, count: int) -> tuple[Side, Side]:  # noqa: ANN401
    """Ours, and diffusers'."""
    pipeline_class, strength, masked = KINDS[kind]
    prompts = [f"a chair, number {number}" for number in range(count)]
    seeds = list(range(count))
    images = [_blotches(seed, size_px) for seed in seeds]
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[size_px // 5 : size_px // 2, size_px // 3 : -size_px // 7] = 255
    init = None
    theirs_only: dict[str, Any] = {"width": size_px, "height": size_px}
    if strength is not None:
        repaint = [torch.from_numpy(mask > 127)] * count if masked else None
        init = InitImages([torch.from_numpy(image) for image in images], repaint, first_step(strength, STEPS))
        theirs_only = {"image": [Image.fromarray(image) for image in images], "strength": strength}
    if masked:
        theirs_only |= {"width": size_px, "height": size_px, "mask_image": [Image.fromarray(mask)] * count}
    other = pipeline_class(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)

    def ours() -> NDArray[np.uint8]:
        with torch.inference_mode():
            pictures = sample(
                resident.pipeline,
                prompts,
                seeds=seeds,
                steps=STEPS,
                guidance_scales=GUIDANCE,
                width_px=size_px,
                height_px=size_px,
                init_images=init,
            )
            return pictures.cpu().numpy()

    def theirs() -> NDArray[np.uint8]:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        made = other(
            prompts, generator=generators, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="np",
            **theirs_only,
        )  # fmt: skip
        rounded: NDArray[np.uint8] = (made.images * 255).round().astype(np.uint8)
        return rounded

    return ours, theirs


def _measure(sides: Sequence[Side], rounds: int) -> dict[str, Any]:
    """Medians of each side, by turns after a first call that is not counted, and how far the pictures are apart."""
    ours, theirs = (side().astype(int) for side in sides)
    difference = np.abs(ours - theirs)
    times_s: list[list[float]] = [[], []]
    for _ in range(rounds):
        for side, times in zip(sides, times_s, strict=True):
            torch.cuda.synchronize()
            began = time.perf_counter()
            side()
            times.append(time.perf_counter() - began)
    ours_s, theirs_s = (statistics.median(times) for times in times_s)
    return {
        "ours_s": round(ours_s, 3),
        "theirs_s": round(theirs_s, 3),
        "ratio": round(theirs_s / ours_s, 2),
        "mean_levels": round(float(difference.mean()), 3),
        "largest_levels": int(difference.max()),
        "spread_of_theirs": round(float(theirs.std()), 1),
    }


def _blotches(seed: int, size_px: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((size_px, size_px), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
