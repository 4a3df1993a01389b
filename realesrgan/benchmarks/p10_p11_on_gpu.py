"""Upscaling on one GPU against the usual ways: P10 (1024 -> 4096) and P11 (2048 -> 8192).

``PYTHONPATH=servicekit/src:torchkit/src:realesrgan/src python realesrgan/benchmarks/p10_p11_on_gpu.py --json out.json``

Everything of a row runs in this process, in turns (peer, ours, peer, ours ...); medians. Outputs are compared before
anything is timed. Rows:

- *network*: pixels on the GPU to pixels on the GPU. Peer: the model called as spandrel gives it, fp16, NCHW.
- *to PNG bytes*: pixels in host memory to a file. Peer: the path of upstream's helper (fp16, tiles or one piece,
  clamp, transpose and round on the CPU in fp32, Pillow's PNG), written anew here.
- *to PNG bytes, our encoder on both sides*: what is left when the peer gets our PNG encoder.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from spandrel import ModelLoader
from torch import Tensor, nn

from enlight.realesrgan.memory import default_budget_bytes
from enlight.realesrgan.networks import staged
from enlight.realesrgan.pure.passes import budget_values, canvas_pixels, new_canvas, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import Size
from enlight.realesrgan.pure.staged_networks import StagedNetwork
from enlight.servicekit.images import encode_png

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "models" / "realesrgan" / "RealESRGAN_x4plus.safetensors"
SCALE = 4
PEER_TILE_PX = 512
PEER_TILE_PAD_PX = 10
Pixels = NDArray[np.uint8]


@dataclass
class Row:
    """One comparison; times in seconds, medians and all."""

    name: str
    peer_s: float
    ours_s: float
    ratio: float
    peer_all_s: list[float]
    ours_all_s: list[float]
    largest_difference: int
    mean_difference: float
    peak_bytes_peer: int
    peak_bytes_ours: int


class Bench:
    """Both sides on one device."""

    def __init__(self, device: torch.device, repeats: int, budget_bytes: int) -> None:
        self.device = device
        self.repeats = repeats
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.budget_bytes = budget_bytes
        self.peer = self.load().to(device=device, dtype=self.dtype)
        ours = staged(self.load(), device=device, dtype=self.dtype)
        assert ours is not None
        self.ours: StagedNetwork = ours

    def load(self) -> nn.Module:
        """The network as spandrel gives it."""
        module: nn.Module = ModelLoader().load_from_file(WEIGHTS).model
        return module.eval().requires_grad_(requires_grad=False)

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def ours_on_device(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1] to a canvas of bytes on the device."""
        size = Size(picture.shape[2] * SCALE, picture.shape[3] * SCALE)
        canvas = new_canvas(size, is_16_bit=False, device=self.device)
        budget = budget_values(self.budget_bytes or default_budget_bytes(self.device), self.dtype)
        return run_pass(self.ours, picture, size, budget=budget, check=lambda: None, canvas=canvas)

    def ours_to_pixels(self, pixels: Pixels) -> Pixels:
        """The way of the service."""
        canvas = self.ours_on_device(to_tensor(pixels, device=self.device, dtype=self.dtype))
        return canvas_pixels(canvas).astype(np.uint8, copy=False)

    def peer_to_pixels(self, pixels: Pixels, *, tile_px: int) -> Pixels:
        """As upstream's helper does it: pixels to fp32 on the CPU, one piece or tiles with a border of 10, the
        result brought to the CPU as fp32, and rounded there."""
        given = torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32).transpose(2, 0, 1)) / 255)[None]
        picture = given.to(self.device, self.dtype)
        result = self.peer_tiles(picture, tile_px) if tile_px else self.peer(picture)
        floats = result.float().cpu().squeeze(0).clamp_(0, 1).numpy()
        return (np.transpose(floats, (1, 2, 0)) * 255.0).round().astype(np.uint8)

    def peer_tiles(self, picture: Tensor, tile_px: int) -> Tensor:
        """Tiles one after the other into an output on the device."""
        _, _, height, width = picture.shape
        out = picture.new_zeros((1, 3, height * SCALE, width * SCALE))
        for top in range(0, height, tile_px):
            for left in range(0, width, tile_px):
                bottom, right = min(top + tile_px, height), min(left + tile_px, width)
                first_row, first_column = max(top - PEER_TILE_PAD_PX, 0), max(left - PEER_TILE_PAD_PX, 0)
                tile = picture[:, :, first_row : bottom + PEER_TILE_PAD_PX, first_column : right + PEER_TILE_PAD_PX]
                done = self.peer(tile)
                row, column = (top - first_row) * SCALE, (left - first_column) * SCALE
                out[:, :, top * SCALE : bottom * SCALE, left * SCALE : right * SCALE] = done[
                    :, :, row : row + (bottom - top) * SCALE, column : column + (right - left) * SCALE
                ]
        return out

    def compare(self, name: str, peer: Callable[[], object], ours: Callable[[], object]) -> Row:
        """Both in turns. What they return are pixels, or files of pixels."""
        first, second = as_pixels(peer()), as_pixels(ours())
        difference = np.abs(first.astype(np.int16) - second)
        times: tuple[list[float], list[float]] = ([], [])
        peaks = [0, 0]
        for _ in range(self.repeats):
            for side, call in enumerate((peer, ours)):
                seconds, peak = self.timed(call)
                times[side].append(seconds)
                peaks[side] = max(peaks[side], peak)
        medians = [statistics.median(side) for side in times]
        return Row(
            name=name,
            peer_s=medians[0],
            ours_s=medians[1],
            ratio=medians[0] / medians[1],
            peer_all_s=times[0],
            ours_all_s=times[1],
            largest_difference=int(difference.max()),
            mean_difference=float(difference.mean()),
            peak_bytes_peer=peaks[0],
            peak_bytes_ours=peaks[1],
        )

    def timed(self, call: Callable[[], object]) -> tuple[float, int]:
        """Seconds, and the largest memory that tensors took on the GPU."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.synchronise()
        began_s = time.perf_counter()
        result = call()
        self.synchronise()
        seconds = time.perf_counter() - began_s
        del result
        return seconds, torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0


def as_pixels(result: object) -> Pixels:
    """(H, W, 3), of a canvas, a network's output, an array or a file."""
    if isinstance(result, bytes):
        return np.asarray(Image.open(io.BytesIO(result)).convert("RGB"))
    if isinstance(result, Tensor):
        if result.dim() == 4:
            result = (result[0].permute(1, 2, 0).float().clamp(0, 1) * 255).round().to(torch.uint8)
        return np.asarray(result.cpu().numpy(), np.uint8)
    assert isinstance(result, np.ndarray)
    return result


def pillow_png(pixels: Pixels) -> bytes:
    """As Pillow saves it unless told otherwise."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def photo(side_px: int) -> Pixels:
    """A photo of that size: the astronaut and the coffee, repeated in turns, so that there is detail everywhere."""
    import skimage.data

    parts = [np.asarray(getattr(skimage.data, name)()[:400, :400], np.uint8) for name in ("astronaut", "coffee")]
    count = -(-side_px // 400)
    rows = [np.concatenate([parts[(x + y) % 2] for x in range(count)], axis=1) for y in range(count)]
    return np.ascontiguousarray(np.concatenate(rows)[:side_px, :side_px])


def measure(bench: Bench, small: Pixels, large: Pixels) -> list[Row]:
    """The rows of P10 and P11."""
    on_device = to_tensor(small, device=bench.device, dtype=bench.dtype)
    name = f"{small.shape[0]} -> {small.shape[0] * SCALE}"
    name_large = f"{large.shape[0]} -> {large.shape[0] * SCALE}"
    tile = min(PEER_TILE_PX, large.shape[0] // 2)
    return [
        bench.compare(f"P10 network, {name}", lambda: bench.peer(on_device), lambda: bench.ours_on_device(on_device)),
        bench.compare(
            f"P10 to PNG bytes, {name}",
            lambda: pillow_png(bench.peer_to_pixels(small, tile_px=0)),
            lambda: encode_png(bench.ours_to_pixels(small)),
        ),
        bench.compare(
            f"P10 to PNG bytes, {name}, our encoder on both sides",
            lambda: encode_png(bench.peer_to_pixels(small, tile_px=0)),
            lambda: encode_png(bench.ours_to_pixels(small)),
        ),
        bench.compare(
            f"P11 to PNG bytes, {name_large}, peer in tiles of {tile}",
            lambda: pillow_png(bench.peer_to_pixels(large, tile_px=tile)),
            lambda: encode_png(bench.ours_to_pixels(large)),
        ),
        bench.compare(
            f"P11 to PNG bytes, {name_large}, peer in tiles of {tile}, our encoder on both sides",
            lambda: encode_png(bench.peer_to_pixels(large, tile_px=tile)),
            lambda: encode_png(bench.ours_to_pixels(large)),
        ),
    ]


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| | peer | ours | ratio | largest / mean difference | GPU memory, peer / ours |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.peer_s * 1e3:,.0f} ms | {row.ours_s * 1e3:,.0f} ms | {row.ratio:.2f}x "
        f"| {row.largest_difference} / {row.mean_difference:.3f} "
        f"| {row.peak_bytes_peer / 1e9:.1f} / {row.peak_bytes_ours / 1e9:.1f} GB |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small-px", type=int, default=1024, help="side of P10's input")
    parser.add_argument("--large-px", type=int, default=2048, help="side of P11's input")
    parser.add_argument("--budget-bytes", type=int, default=0, help="our tile's memory; 0: chosen as the service does")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    bench = Bench(device, arguments.repeats, arguments.budget_bytes)
    with torch.inference_mode():
        rows = measure(bench, photo(arguments.small_px), photo(arguments.large_px))
    print(table(rows))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"\n{where}, torch {torch.__version__}, medians of {arguments.repeats}, peer and ours in turns")
    if arguments.json:
        found = {
            "device": where,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
            "repeats": arguments.repeats,
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
