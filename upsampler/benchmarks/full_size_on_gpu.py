"""512 -> 2048 at full size on a GPU: seconds and peak memory, in windows of several sizes, against diffusers' pipeline.

``python upsampler/benchmarks/full_size_on_gpu.py --output FOLDER``: makes a random x4 upscaler (speed and memory do not
depend on the values of the weights), runs diffusers' pipeline and ours by turns, then the service over HTTP, prints a
table and writes ``upsampler.json``. ``--tiny`` runs the same on a small model, to see that the script works.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import StableDiffusionUpscalePipeline
from numpy.typing import NDArray
from PIL import Image
from random_x4_upscaler import FULL, TINY, write_random_upscaler

from enlight.servicekit.images import encode_png
from enlight.servicekit.local_service import LocalService
from enlight.torchkit.gpu_errors import is_out_of_memory
from enlight.upsampler.pure.upscaling import Conditioning, WindowSizes, is_guided, upscale
from enlight.upsampler.upscaler_model import UpscalerModel

SERVICE = Path(__file__).resolve().parents[1]
GIB = 1024**3
PROMPT = "The sofa next to the window"
GUIDANCE_SCALE = 9.0
NOISE_LEVEL = 20
SEED = 0

Pixels = NDArray[np.uint8]


@dataclass
class Row:
    """One way to enlarge the picture."""

    name: str
    seconds: list[float] = field(default_factory=list)
    """Of each run after the first, which warms up."""
    first_s: float | None = None
    working_gib: float | None = None
    """Highest memory in use above the weights."""
    failed: str | None = None
    levels_from: dict[str, float] = field(default_factory=dict)
    """Mean difference from other rows' pictures, in levels of 255."""

    @property
    def median_s(self) -> float | None:
        return round(statistics.median(self.seconds), 3) if self.seconds else None


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("upsampler-full-size"))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-http", action="store_true")
    asked = parser.parse_args(arguments)
    asked.output.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        began = time.monotonic()
        parameters = write_random_upscaler(folder, TINY if asked.tiny else FULL)
        print(f"{parameters:,} random parameters written in {time.monotonic() - began:.0f} s", flush=True)
        low = _picture(64 if asked.tiny else 512)
        sizes = (
            [(64, 64), (64, 32)]
            if asked.tiny
            else [(512, 512), (512, 256), (512, 192), (512, 128), (320, 192), (256, 96)]
        )
        rows, weights_gib = _in_process(folder, device, low, sizes, asked.steps, asked.repeats)
        http = {} if asked.no_http else _over_http(folder, asked.output, asked.steps, asked.repeats)
    result = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "parameters": parameters,
        "steps": asked.steps,
        "guidance_scale": GUIDANCE_SCALE,
        "input_px": low.shape[0],
        "weights_gib": weights_gib,
        "rows": [{**asdict(row), "median_s": row.median_s} for row in rows],
        "http": http,
    }
    (asked.output / "upsampler.json").write_text(json.dumps(result, indent=2))
    _print_table(rows, weights_gib, http)
    return 0


def _in_process(
    folder: Path, device: torch.device, low: Pixels, sizes: list[tuple[int, int]], steps: int, repeats: int
) -> tuple[list[Row], dict[str, float]]:
    """Every row, run by turns, so that a change of the machine's mood meets them all."""
    before = _allocated(device)
    pipeline = _pipeline(folder, device)
    with_pipeline = _allocated(device)
    weights_dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = UpscalerModel.load(folder, device=device, weights_dtype=weights_dtype)
    weights_gib = {
        "diffusers": round((with_pipeline - before) / GIB, 2),
        "ours": round((_allocated(device) - with_pipeline) / GIB, 2),
    }
    ways: dict[str, Callable[[], Pixels]] = {
        "diffusers, one piece": lambda: _theirs(pipeline, low, steps, tiling=False, slicing=False),
        "diffusers, VAE tiling": lambda: _theirs(pipeline, low, steps, tiling=True, slicing=False),
        "diffusers, VAE tiling, attention slicing": lambda: _theirs(pipeline, low, steps, tiling=True, slicing=True),
    }
    for unet, vae in sizes:
        ways[f"ours, windows {unet} / {vae}"] = partial(_ours, model, low, steps, WindowSizes(unet, vae))
    rows = {name: Row(name) for name in ways}
    pictures: dict[str, Pixels] = {}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            _run(rows[name], way, device, pictures, first=repeat == 0)
            if repeat == 0:
                print(f"{name}: {rows[name].failed or f'{rows[name].first_s:.2f} s'}", flush=True)
    for name, row in rows.items():
        for other in ("diffusers, one piece", "diffusers, VAE tiling", f"ours, windows {sizes[0][0]} / {sizes[0][1]}"):
            if other != name and {name, other} <= pictures.keys():
                difference = np.abs(pictures[name].astype(np.int16) - pictures[other])
                row.levels_from[other] = round(float(difference.mean()), 3)
    return list(rows.values()), weights_gib


def _run(
    row: Row, way: Callable[[], Pixels], device: torch.device, pictures: dict[str, Pixels], *, first: bool
) -> None:
    if row.failed:
        return
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    before, began = _allocated(device), time.monotonic()
    try:
        pictures[row.name] = way()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        row.failed = "out of memory"
        return
    seconds = time.monotonic() - began
    if first:
        row.first_s = seconds
    else:
        row.seconds.append(seconds)
    if device.type == "cuda":
        row.working_gib = round((torch.cuda.max_memory_allocated(device) - before) / GIB, 2)


def _pipeline(folder: Path, device: torch.device) -> Any:  # noqa: ANN401 -- diffusers has no types
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    pipeline: Any = cast(Any, StableDiffusionUpscalePipeline).from_pretrained(
        str(folder), torch_dtype=dtype, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _theirs(
    pipeline: Any,  # noqa: ANN401
    low: Pixels,
    steps: int,
    *,
    tiling: bool,
    slicing: bool,
) -> Pixels:
    (pipeline.vae.enable_tiling if tiling else pipeline.vae.disable_tiling)()
    if slicing:
        attention = pipeline.unet.attn_processors
        pipeline.unet.set_attention_slice("auto")
    try:
        return np.asarray(
            pipeline(
                PROMPT,
                image=Image.fromarray(low),
                num_inference_steps=steps,
                guidance_scale=GUIDANCE_SCALE,
                noise_level=NOISE_LEVEL,
                generator=torch.Generator("cpu").manual_seed(SEED),
            ).images[0]
        )
    finally:
        if slicing:
            pipeline.unet.set_attn_processor(attention)


def _ours(model: UpscalerModel, low: Pixels, steps: int, windows: WindowSizes) -> Pixels:
    negative = model.encode_prompt("") if is_guided(GUIDANCE_SCALE) else None
    picture = upscale(
        model,
        torch.from_numpy(low).to(model.device).permute(2, 0, 1)[None].float() / 127.5 - 1,
        Conditioning(model.encode_prompt(PROMPT), negative, GUIDANCE_SCALE, NOISE_LEVEL),
        seed=SEED,
        steps=steps,
        windows=windows,
    )
    rgb = ((picture[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return rgb.cpu().numpy()


def _over_http(folder: Path, output: Path, steps: int, repeats: int) -> dict[str, Any]:
    """Bytes in, PNG bytes out, through the service at its default windows."""
    # Where the distribution is on the path without being installed, its version is still asked for.
    record = folder.parent / "metadata" / "enlight_upsampler-0.0.dist-info" / "METADATA"
    record.parent.mkdir(parents=True)
    record.write_text("Metadata-Version: 2.1\nName: enlight-upsampler\nVersion: 0.0\n")
    sys_path = [*(path for path in sys.path if path), str(record.parents[1])]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys_path)  # noqa: TID251 -- handed to the service
    service = LocalService(
        "enlight.upsampler.app:create_app()",
        gunicorn_config=SERVICE / "gunicorn.conf.py",
        env_prefix="UPSAMPLER_",
        settings={"WEIGHTS_FOLDER": str(folder), "DEFAULT_STEPS": str(steps)},
        log=output / "service.log",
        ready_timeout_s=300,
    )
    rows: dict[str, Any] = {}
    with service:
        for resolution, side_px in ((1024, 256), (2048, 512)):
            body = encode_png(_picture(side_px))
            seconds = []
            for _ in range(repeats + 1):
                began = time.monotonic()
                data, headers = _post(f"{service.url}/v1/upscale?resolution={resolution}", body)
                seconds.append(time.monotonic() - began)
            (output / f"{resolution}.png").write_bytes(data)
            rows[f"{side_px} -> {resolution}"] = {
                "first_s": round(seconds[0], 3),
                "median_s": round(statistics.median(seconds[1:] or seconds), 3),
                "in_the_worker_s": float(headers["X-Run-Seconds"]),
                "windows": headers["X-Windows"],
                "bytes": len(data),
            }
        with urllib.request.urlopen(f"{service.url}/ready", timeout=10) as answer:
            rows["gpu_memory_held_gib"] = round(json.load(answer)["details"]["worker"]["gpu_memory_bytes"] / GIB, 2)
    return rows


def _post(url: str, body: bytes) -> tuple[bytes, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=900) as answer:
            return answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{url} answered {error.code}: {error.read()[:2000].decode()}") from error


def _picture(side_px: int) -> Pixels:
    """Smooth shapes with some grain (H, W, 3)."""
    y, x = np.mgrid[:side_px, :side_px] / side_px
    shapes = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y * x + 2), np.sin(12 * (x - 0.5) ** 2 + 6 * y)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 0.05, shapes.shape)
    return np.clip((shapes * 0.4 + 0.5 + grain) * 255, 0, 255).astype(np.uint8)


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _print_table(rows: list[Row], weights_gib: dict[str, float], http: dict[str, Any]) -> None:
    print(f"\nweights in GPU memory, GiB: {weights_gib}")
    print(f"{'':<44} {'median s':>9} {'first s':>8} {'GiB':>6}  mean levels from")
    for row in rows:
        seconds = row.failed or row.median_s
        print(f"{row.name:<44} {seconds!s:>9} {row.first_s or 0:>8.2f} {row.working_gib!s:>6}  {row.levels_from}")
    for name, values in http.items():
        print(f"HTTP {name}: {values}")


if __name__ == "__main__":
    sys.exit(main())
