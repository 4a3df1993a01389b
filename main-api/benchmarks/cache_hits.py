"""What a kept answer saves: the same request twice through the gateway, over HTTP, on every route that keeps answers.

``python main-api/benchmarks/cache_hits.py`` (about two minutes on 2 cores)

The suite runs as the demo starts it: gateway, Valkey, database, dreambooth-api with the pocket base, bgrem and
realesrgan with their real weights, all on this machine's CPU; the upsampler with a tiny network of random weights, so
that its row says what the gateway does and not what an upscaler costs. Every request is one that nobody sent before,
then the same again. The gateway says which it was, and both answers are compared byte by byte. The routes take turns.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests
import skimage.data
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "upsampler/tests/support")]
from local_suite import BASE_MODEL, LocalSuite  # noqa: E402
from upsampler_tiny_model import build_tiny_upscaler  # noqa: E402

SERVICES = ("dreambooth-api", "bgrem", "realesrgan", "upsampler")
SETTLE_S = 0.3
"""Between two requests: a large answer is kept when its client has it."""


@dataclass(frozen=True)
class Case:
    """One route; ``body`` makes the body of the request with this number, JSON or a picture's bytes."""

    name: str
    route: str
    body: Callable[[int], dict[str, Any] | bytes]


def photo(side_px: int, number: int) -> bytes:
    """A photograph as a JPEG file, another one for each number."""
    astronaut = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    picture = astronaut.resize((side_px, side_px), Image.Resampling.LANCZOS)
    picture.putpixel((0, 0), (number % 256, number // 256, 0))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92, comment=str(number))
    return file.getvalue()


def base64_photo(side_px: int, number: int) -> str:
    """The same in base64."""
    return base64.b64encode(photo(side_px, number)).decode()


CASES = (
    Case(
        "u2netp, 1024 px",
        "/remove",
        lambda number: {"input_image": base64_photo(1024, number), "model": "u2netp"},
    ),
    Case("u2net, 1024 px", "/remove-opacity", lambda number: {"input_image": base64_photo(1024, number)}),
    Case("u2net, 1024 px", "/v1/cutout", lambda number: photo(1024, number)),
    Case(
        "animevideov3, 256 to 1024 px",
        "/realesrgan",
        lambda number: {"input_string": base64_photo(256, number), "model_name": "realesr-animevideov3"},
    ),
    Case(
        "animevideov3, 256 to 1024 px",
        "/v1/upscale/realesrgan?model_name=realesr-animevideov3",
        lambda number: photo(256, number),
    ),
    Case(
        "tiny network, to 1024 px",
        "/upsampler",
        lambda number: {"image": base64_photo(64, number), "prompt": "an astronaut", "resolution": 1024},
    ),
    Case("tiny network, to 1024 px", "/v1/upscale?resolution=1024", lambda number: photo(64, number)),
    Case(
        "pocket base, 4 pictures, 25 steps",
        "/v1/generations",
        lambda number: {"model_id": BASE_MODEL, "prompt": "a red robot", "num_images": 4, "seed": number},
    ),
)


@dataclass
class Row:
    """What one case took."""

    name: str
    route: str
    answer_bytes: int = 0
    computed_s: list[float] = field(default_factory=list)
    kept_s: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cache-hits-") as temporary:
        folder = Path(temporary)
        tiny = build_tiny_upscaler(folder / "tiny-upscaler")
        settings = {
            "UPSAMPLER_": {"WEIGHTS_FOLDER": str(tiny), "DEVICE": "cpu", "DEFAULT_STEPS": "2"},
            "BGREM_": {"DEVICE": "cpu"},
            "REALESRGAN_": {"DEVICE": "cpu"},
            "DREAMBOOTH_API_": {"DEVICE": "cpu"},
            "MAIN_API_": {"UPSTREAM_CHECK_EVERY_S": "1"},
        }
        with LocalSuite(folder / "data", folder, services=SERVICES, workers=0, settings=settings) as suite:
            rows = measure(suite.url, arguments.repeats)
    report(rows, arguments.json)


def measure(url: str, repeats: int) -> list[Row]:
    rows = [Row(case.name, case.route.partition("?")[0]) for case in CASES]
    with requests.Session() as session:
        wait_until_seen(session, url)
        for number in range(repeats + 1):
            for case, row in zip(CASES, rows, strict=True):
                body = case.body(number)
                computed_s, computed = timed(session, url + case.route, body, "miss")
                kept_s, kept = timed(session, url + case.route, body, "hit")
                assert kept == computed, case
                row.answer_bytes = len(kept)
                if number > 0:  # the first brought the networks into memory
                    row.computed_s.append(computed_s)
                    row.kept_s.append(kept_s)
            print(f"{number} of {repeats}", flush=True)
    return rows


def wait_until_seen(session: requests.Session, url: str) -> None:
    """Until the gateway has seen every service: before that it does not know their versions, and keeps nothing."""
    while True:
        dependencies = session.get(f"{url}/ready", timeout=10).json()["details"]["dependencies"]
        if all(dependencies[service] == {"ready": 1} for service in SERVICES):
            return
        time.sleep(0.2)


def timed(session: requests.Session, url: str, body: dict[str, Any] | bytes, cache: str) -> tuple[float, bytes]:
    """Seconds until the whole answer is here, and the answer; the gateway must say that it is a ``cache``."""
    data, kind = (body, "image/jpeg") if isinstance(body, bytes) else (json.dumps(body).encode(), "application/json")
    time.sleep(SETTLE_S)
    began_s = time.perf_counter()
    answer = session.post(url, data=data, headers={"Content-Type": kind}, timeout=300)
    took_s = time.perf_counter() - began_s
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers.get("X-Cache") == cache, (url, dict(answer.headers))
    return took_s, answer.content


def report(rows: list[Row], file: Path | None) -> None:
    print("\n| route | request | answer | computed | kept | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        computed_ms, kept_ms = (1e3 * statistics.median(seconds) for seconds in (row.computed_s, row.kept_s))
        print(
            f"| `{row.route}` | {row.name} | {row.answer_bytes / 1024:.0f} KiB | {computed_ms:.0f} ms "
            f"| {kept_ms:.1f} ms | {computed_ms / kept_ms:.0f}x |"
        )
    print(f"\nmedians of {len(rows[0].kept_s)}, the routes in turns, over HTTP, CPU")
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
