"""PNG encoding, ours against Pillow's default, interleaved: medians, ratio and bytes.

``python dreambooth-api/benchmarks/encode_png.py`` (about 20 seconds). The pictures are a photograph-like field at the
sizes that the services answer with; decoding gives the same pixels from both.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from enlight.servicekit.images import encode_png

ROUNDS = 7


def photograph(size_px: int) -> np.ndarray:
    """(size, size, 3) uint8: smooth shapes with fine noise, which compresses about as a photo does."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (size_px // 32, size_px // 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy: np.ndarray = np.clip(smooth + random.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)
    return noisy


def encode_with_pillow(rgb: np.ndarray) -> bytes:
    """What a service does that thinks no further."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Prints one row per size."""
    print(f"{'size':>6} {'Pillow':>10} {'ours':>10} {'ratio':>7} {'bytes, ours to Pillow':>22}   medians of {ROUNDS}")
    for size_px in (64, 768, 2048):
        rgb = photograph(size_px)
        encoders: dict[str, Callable[[np.ndarray], bytes]] = {
            "Pillow": encode_with_pillow,
            "ours": encode_png,
        }
        seconds: dict[str, list[float]] = {name: [] for name in encoders}
        files: dict[str, bytes] = {}
        for _ in range(ROUNDS):
            for name, encode in encoders.items():
                began = time.perf_counter()
                files[name] = encode(rgb)
                seconds[name].append(time.perf_counter() - began)
        for file in files.values():
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), rgb)
        pillow_s, ours_s = (statistics.median(seconds[name]) for name in ("Pillow", "ours"))
        share = len(files["ours"]) / len(files["Pillow"])
        print(f"{size_px:>6} {pillow_s * 1e3:>8.1f}ms {ours_s * 1e3:>8.1f}ms {pillow_s / ours_s:>6.1f}x {share:>22.2f}")


if __name__ == "__main__":
    main()
