"""One picture on one GPU: bgrem's worker code against rembg with a CUDA session. Needs onnxruntime-gpu.

``PYTHONPATH=servicekit/src:bgrem/src python bgrem/benchmarks/on_gpu.py --json result.json``

Everything runs in this process, in turns, on the same files, the same weights and the same GPU; medians of the rounds.

- *network*: what the network is given to what it says, both in host memory. rembg asks for all seven outputs.
- *bytes to bytes*: a JPEG file to a PNG file, `rembg.remove()` against the worker's own code.

The opacity of the two answers is compared, and ours with that of ours on the CPU, in onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from against_rembg import SIZES, alpha, timed
from camera_photos import camera_file
from rembg import new_session, remove
from rembg.sessions.base import BaseSession

from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.networks import Networks
from enlight.bgrem.pure.network_input import network_input
from enlight.bgrem.requests import CutoutRequest, ModelName
from enlight.bgrem.settings import Settings
from enlight.bgrem.weights import MODELS
from enlight.servicekit.images import decode_picture
from enlight.servicekit.strips import Strips, core_count

ROOT = Path(__file__).resolve().parents[2]
CUDA_SESSION = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["u2net", "u2netp"], choices=["u2net", "u2netp"])
    parser.add_argument("--photos", nargs="+", default=["astronaut", "chelsea", "coffee"])
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "bgrem")
    parser.add_argument("--json", type=Path, help="file for the result")
    arguments = parser.parse_args()

    os.environ["U2NET_HOME"] = str(arguments.weights)  # noqa: TID251 -- rembg's name for the folder
    bench = Bench(arguments.weights, arguments.rounds)
    rows = [row for model in arguments.models for photo in arguments.photos for row in bench.compare(model, photo)]
    print_table(rows)
    if arguments.json:
        result = {"machine": machine(), "rounds": arguments.rounds, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


class Bench:
    """Both sides on the GPU, and ours on the CPU for comparison."""

    def __init__(self, weights: Path, rounds: int) -> None:
        self.rounds = rounds
        settings = Settings(weights_folder=weights, device="cuda")
        # First, since it loads CUDA's libraries, which rembg expects to be loaded.
        self.networks = Networks(settings.worker_config(), threads=core_count())
        self.ours = self.cutouts(self.networks, settings)
        on_cpu = Settings(weights_folder=weights, device="cpu", cpu_engine="onnxruntime")
        self.ours_on_cpu = self.cutouts(Networks(on_cpu.worker_config(), threads=core_count()), on_cpu)

    def cutouts(self, networks: Networks, settings: Settings) -> Cutouts:
        """The worker's code around these networks."""
        return Cutouts(networks, Strips(core_count()), max_matting_pixels=settings.max_matting_pixels)

    def compare(self, model: ModelName, photo: str) -> list[dict[str, Any]]:
        """A row for the network, and one for each size of file."""
        session = new_session(model, providers=CUDA_SESSION)
        assert session.inner_session.get_providers()[0] == CUDA_SESSION[0], "rembg's session is on the GPU"
        rows = [self.network_row(model, photo, session)]
        for size, pixels in SIZES.items():
            data = camera_file(photo, pixels)
            request = CutoutRequest(data, "photo", model)

            def theirs(data: bytes = data) -> bytes:
                answer = remove(data, session=session)
                assert isinstance(answer, bytes)
                return answer

            def ours(request: CutoutRequest = request) -> bytes:
                return self.ours.cut_out(request).data

            row = {
                "model": model,
                "photo": photo,
                "what": f"{size}, bytes to bytes",
                **self.timed_in_turns(theirs, ours),
            }
            peer, own, on_cpu = (alpha(file) for file in (theirs(), ours(), self.ours_on_cpu.cut_out(request).data))
            rows.append({**row, **difference("rembg", own, peer), **difference("cpu", own, on_cpu)})
        return rows

    def network_row(self, model: ModelName, photo: str, session: BaseSession) -> dict[str, Any]:
        """The network alone, of both sides."""
        network = self.networks.get(model)
        colour = decode_picture(camera_file(photo, SIZES["1024 px"]), "photo").colour
        values = network_input(colour.astype(np.uint8, copy=False), MODELS[model].input_px, Strips(1))
        name = session.inner_session.get_inputs()[0].name
        times = self.timed_in_turns(
            lambda: session.inner_session.run(None, {name: values}), lambda: network.predict(values)
        )
        return {"model": model, "photo": photo, "what": "network", **times}

    def timed_in_turns(self, theirs: Callable[[], object], ours: Callable[[], object]) -> dict[str, Any]:
        """Medians in milliseconds, and all times; both sides are warm."""
        for _ in range(2):
            theirs(), ours()
        all_ms: dict[str, list[float]] = {"rembg": [], "bgrem": []}
        for _ in range(self.rounds):
            all_ms["rembg"].append(timed(theirs) * 1000)
            all_ms["bgrem"].append(timed(ours) * 1000)
        peer_ms, own_ms = (statistics.median(values) for values in all_ms.values())
        return {
            "rembg_ms": round(peer_ms, 2),
            "bgrem_ms": round(own_ms, 2),
            "ratio": round(peer_ms / own_ms, 2),
            "all_ms": {side: [round(value, 2) for value in values] for side, values in all_ms.items()},
        }


def difference(name: str, found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    levels = np.abs(found - expected)
    return {
        f"alpha_within_1_of_{name}": round(float((levels <= 1).mean()), 6),
        f"alpha_largest_difference_from_{name}": int(levels.max()),
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        "| model | photo | what | rembg ms | bgrem ms | ratio | within 1 level | largest | of CPU: within 1 | largest |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        levels = [
            text
            for name in ("rembg", "cpu")
            if f"alpha_within_1_of_{name}" in row
            for text in (f"{row[f'alpha_within_1_of_{name}']:.4%}", row[f"alpha_largest_difference_from_{name}"])
        ]
        times = [f"{row['rembg_ms']:.1f}", f"{row['bgrem_ms']:.1f}", f"{row['ratio']:.2f}"]
        cells = [row["model"], row["photo"], row["what"], *times, *(levels or [""] * 4)]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def machine() -> dict[str, object]:
    packages = ("rembg", "onnxruntime-gpu", "pillow", "numpy", "opencv-python-headless")
    return {
        "gpu": subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.strip(),
        "cores": core_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
