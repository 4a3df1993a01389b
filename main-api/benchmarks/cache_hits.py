"""What a kept answer saves: the same request to a real service, computed and out of the cache, in turns.

``PYTHONPATH=jobkit/tests/support python main-api/benchmarks/cache_hits.py`` (about two minutes on 2 cores)

bgrem's and realesrgan's real services compute on this machine's CPU with their real weights; the cache is a real Valkey
(the embedded one, or ``--redis-url``) and a bucket in a folder. A request costs here what it costs in the gateway: its
body's SHA-256, the look-up, then either the kept answer or the service's, which is kept. Answers are compared byte by
byte. The last column is what the look-up and the keeping add to a request that nobody asked before.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import skimage.data
import urllib3
from embedded_servers import valkey_server
from PIL import Image

from enlight.main_api.cache.cache_keys import response_key
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.response_cache import CachedResponse, ResponseCache
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """One kind of request."""

    name: str
    service: str
    path: str
    side_px: int


CASES = (
    Case("cut-out, u2netp, 1024 px", "bgrem", "/v1/cutout?model=u2netp", 1024),
    Case("cut-out, u2net, 1024 px", "bgrem", "/v1/cutout?model=u2net", 1024),
    Case("upscale, animevideov3, 256 to 1024 px", "realesrgan", "/v1/upscale?model_name=realesr-animevideov3", 256),
    Case("upscale, anime_6B, 256 to 1024 px", "realesrgan", "/v1/upscale?model_name=RealESRGAN_x4plus_anime_6B", 256),
)


@dataclass
class Row:
    """What one case took."""

    case: Case
    answer_bytes: int = 0
    computed_s: list[float] = field(default_factory=list)
    kept_s: list[float] = field(default_factory=list)
    cache_s: list[float] = field(default_factory=list)
    """Of a computed request: what the cache added to it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--redis-url", help="a running server instead of the embedded one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cache-hits-")))
        url = arguments.redis_url or stack.enter_context(valkey_server(folder / "valkey")).url
        client = stack.enter_context(closing(CacheClient([url])))
        cache = ResponseCache(
            client, DirectoryStore(folder / "bucket"), secret=b"benchmark" * 4, ttl_s=600, max_bytes=64 << 20
        )
        urls = {name: stack.enter_context(service(name, folder)) for name in ("bgrem", "realesrgan")}
        rows = [measure(case, urls[case.service], cache, arguments.repeats) for case in CASES]
    report(rows, arguments.json)


def measure(case: Case, url: str, cache: ResponseCache, repeats: int) -> Row:
    row = Row(case)
    picture = photo(case.side_px)
    with urllib3.PoolManager(retries=False) as pool:

        def ask() -> CachedResponse:
            answer = pool.request("POST", url + case.path, body=picture, headers={"Content-Type": "image/jpeg"})
            assert answer.status == 200, answer.data[:500]
            return CachedResponse(answer.status, answer.headers["Content-Type"], {}, answer.data)

        ask()  # the network is in memory from now on
        for repeat in range(repeats):
            # A version of its own makes each first request one that nobody asked before.
            first_s, cache_s, computed = timed(cache, case, picture, str(repeat), ask)
            second_s, _, kept = timed(cache, case, picture, str(repeat), never)
            assert kept == computed
            row.computed_s.append(first_s)
            row.cache_s.append(cache_s)
            row.kept_s.append(second_s)
            row.answer_bytes = len(kept.body)
    print(f"{case.name}: done", flush=True)
    return row


def timed(
    cache: ResponseCache, case: Case, picture: bytes, version: str, ask: Callable[[], CachedResponse]
) -> tuple[float, float, CachedResponse]:
    """Seconds of the request, seconds of them that are the cache's, and the answer."""
    began_s = time.perf_counter()
    key = response_key(
        tenant="benchmark",
        route=case.path,
        query=[],
        model_version="",
        body_sha256=hashlib.sha256(picture).hexdigest(),
        code_version=version,
    )
    answer = cache.get(key)
    looked_up_s = time.perf_counter()
    kept_from_s = looked_up_s
    if answer is None:
        answer = ask()
        kept_from_s = time.perf_counter()
        assert cache.put(key, answer)
    ended_s = time.perf_counter()
    return ended_s - began_s, (looked_up_s - began_s) + (ended_s - kept_from_s), answer


def never() -> CachedResponse:
    raise AssertionError("the answer was not kept")


def photo(side_px: int) -> bytes:
    """A photograph as a JPEG file."""
    astronaut = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    picture = astronaut.resize((side_px, side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


@contextmanager
def service(name: str, folder: Path) -> Iterator[str]:
    """The URL of a service that runs on the CPU with the repository's weights."""
    settings = {"WEIGHTS_FOLDER": str(ROOT / "models" / name), "DEVICE": "cpu", "LOG_LEVEL": "warning"}
    with LocalService(
        f"enlight.{name}.app:create_app()",
        gunicorn_config=ROOT / name / "gunicorn.conf.py",
        env_prefix=f"{name.upper()}_",
        settings=settings,
        log=folder / f"{name}.log",
    ) as running:
        yield running.url


def report(rows: list[Row], file: Path | None) -> None:
    print("\n| request | answer | computed | kept | ratio | the cache adds to a computed one |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        medians_s = (statistics.median(seconds) for seconds in (row.computed_s, row.kept_s, row.cache_s))
        computed_ms, kept_ms, cache_ms = (1e3 * median_s for median_s in medians_s)
        print(
            f"| {row.case.name} | {row.answer_bytes / 1024:.0f} KiB | {computed_ms:.0f} ms | {kept_ms:.1f} ms "
            f"| {computed_ms / kept_ms:.0f}x | {cache_ms:.1f} ms |"
        )
    print(f"\nmedians of {len(rows[0].kept_s)}, in turns, CPU")
    if file:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
