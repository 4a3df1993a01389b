"""One picture, bytes to bytes, on this machine's cores: bgrem's worker code against rembg.remove of the same release.

Both run in this process, in turns, on the same files and the same weights; medians of the rounds. The opacity of both
answers is compared. ``--quick``: three rounds, the small network and one photo.

    .venv/bin/python bgrem/benchmarks/against_rembg.py --json result.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from camera_photos import camera_file
from PIL import Image
from rembg import new_session, remove

from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.networks import Networks
from enlight.bgrem.requests import CutoutRequest, ModelName
from enlight.bgrem.settings import Settings
from enlight.servicekit.strips import Strips, core_count

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"12 MP": (4000, 3000), "1024 px": (1024, 768)}
GOALS = {("u2net", "12 MP"): ("P8", 5.0), ("u2net", "1024 px"): ("P9", 1.7)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds, u2netp, one photo")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["u2net", "u2netp"], choices=["u2net", "u2netp"])
    parser.add_argument("--photos", nargs="+", default=["astronaut", "chelsea", "coffee"])
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "bgrem")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()
    models: list[ModelName] = ["u2netp"] if arguments.quick else arguments.models
    photos = ["astronaut"] if arguments.quick else arguments.photos
    rounds = 3 if arguments.quick else arguments.rounds

    os.environ["U2NET_HOME"] = str(arguments.weights)  # noqa: TID251 -- rembg's name for the folder
    settings = Settings(weights_folder=arguments.weights, device="cpu")
    networks = Networks(settings.worker_config(), threads=core_count())
    cutouts = Cutouts(networks, Strips(core_count()), max_matting_pixels=settings.max_matting_pixels)
    rows = [compare(cutouts, model, photo, size, rounds) for model in models for size in SIZES for photo in photos]
    print_table(rows)
    summary = {
        f"{model} {size}": round(statistics.median(row["ratio"] for row in rows if matches(row, model, size)), 2)
        for model in models
        for size in SIZES
    }
    for (model, size), (name, goal) in GOALS.items():
        if f"{model} {size}" in summary:
            print(f"{name}: {summary[f'{model} {size}']} times as fast (median of the photos); goal {goal}")
    if arguments.json:
        result = {
            "machine": machine(),
            "engines": networks.engines,
            "rounds": rounds,
            "rows": rows,
            "median_ratios": summary,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def compare(cutouts: Cutouts, model: ModelName, photo: str, size: str, rounds: int) -> dict[str, Any]:
    data = camera_file(photo, SIZES[size])
    session = new_session(model)

    def theirs() -> bytes:
        answer = remove(data, session=session)
        assert isinstance(answer, bytes)
        return answer

    def ours() -> bytes:
        return cutouts.cut_out(CutoutRequest(data, "photo", model)).data

    first = (theirs(), ours())  # warms both up
    difference = np.abs(alpha(first[0]) - alpha(first[1]))
    seconds: dict[str, list[float]] = {"rembg": [], "bgrem": []}
    for _ in range(rounds):
        seconds["rembg"].append(timed(theirs))
        seconds["bgrem"].append(timed(ours))
    peer_s, own_s = (statistics.median(values) for values in seconds.values())
    return {
        "model": model,
        "size": size,
        "photo": photo,
        "input_bytes": len(data),
        "rembg_s": round(peer_s, 4),
        "bgrem_s": round(own_s, 4),
        "ratio": round(peer_s / own_s, 2),
        "alpha_within_1": round(float((difference <= 1).mean()), 6),
        "alpha_largest_difference": int(difference.max()),
        "rembg_bytes": len(first[0]),
        "bgrem_bytes": len(first[1]),
        "all_s": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
    }


def alpha(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))[..., 3].astype(int)


def timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def matches(row: dict[str, Any], model: str, size: str) -> bool:
    return bool(row["model"] == model and row["size"] == size)


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| model | size | photo | rembg s | bgrem s | ratio | alpha within 1 level | largest | rembg MB | bgrem MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['model']} | {row['size']} | {row['photo']} | {row['rembg_s']:.3f} | {row['bgrem_s']:.3f} | "
            f"{row['ratio']:.2f} | {row['alpha_within_1']:.4%} | {row['alpha_largest_difference']} | "
            f"{row['rembg_bytes'] / 1e6:.2f} | {row['bgrem_bytes'] / 1e6:.2f} |"
        )


def machine() -> dict[str, object]:
    packages = ("rembg", "onnxruntime", "mnn", "pillow", "numpy", "opencv-python-headless")
    return {
        "cores": core_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
