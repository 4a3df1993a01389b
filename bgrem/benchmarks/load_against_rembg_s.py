"""Pictures a second and memory under load: bgrem against `rembg s`, same network, same pictures, same machine.

Both servers run as their users run them, bgrem under gunicorn with its own route ``POST /api/remove``, rembg in a
virtual environment of its own (``.bench/rembg-s``, made here at the first run) as ``rembg s --no-ui``. The same
clients post the same form to each, in turns. Memory is the resident memory of all processes of a server, over
``--memory-requests`` requests. ``--quick``: 10 s and 100 requests.

    .venv/bin/python bgrem/benchmarks/load_against_rembg_s.py --json result.json --plot memory.png
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from camera_photos import camera_file, fitted_size
from PIL import Image

from enlight.servicekit.local_service import LocalService
from enlight.servicekit.settings import child_environment

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENT = "rembg[cpu,cli]==2.0.86"
MODEL = "u2netp"
SAMPLE_S = 0.5
READY_TIMEOUT_S = 180
REQUEST_TIMEOUT_S = 300


@dataclass
class Server:
    """A running server: its address, and the process whose tree it is."""

    name: str
    url: str
    process: psutil.Process


@dataclass
class Memory:
    """Resident memory of a server over time."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """(seconds, requests answered, bytes)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 s, 100 requests")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="how often both servers take their turn")
    parser.add_argument("--memory-requests", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024, help="long side of the pictures, pixels")
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "bgrem")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG of memory over requests (needs matplotlib)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped whatever ends this
    seconds = 10.0 if arguments.quick else arguments.seconds
    memory_requests = 100 if arguments.quick else arguments.memory_requests

    photos = ("astronaut", "chelsea", "coffee", "rocket")
    pictures = [camera_file(photo, fitted_size(photo, arguments.side)) for photo in photos]
    rates: dict[str, list[float]] = {"bgrem": [], "rembg s": []}
    memory: dict[str, Memory] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bgrem-load-")))
        ours = stack.enter_context(bgrem_server(folder, arguments.weights))
        theirs = stack.enter_context(rembg_server(folder, arguments.weights))
        servers = (ours, theirs)
        for server in servers:
            load(server, pictures, clients=2, requests_limit=4)  # the network is in memory from now on
        largest = largest_difference(ours, theirs, pictures)
        for _ in range(arguments.rounds):
            for server in servers:
                done, took_s, _ = load(server, pictures, clients=arguments.clients, seconds=seconds)
                rates[server.name].append(done / took_s)
                print(f"{server.name}: {done} pictures in {took_s:.1f} s, {done / took_s:.2f} a second", flush=True)
        for server in servers:
            _, took_s, memory[server.name] = load(
                server, pictures, clients=arguments.clients, requests_limit=memory_requests
            )
            print(f"{server.name}: {memory_requests} requests in {took_s:.0f} s", flush=True)
    report(arguments, rates, memory, largest)


def report(
    arguments: argparse.Namespace, rates: dict[str, list[float]], memory: dict[str, Memory], largest: int
) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = medians["bgrem"] / medians["rembg s"]
    print("\n| server | pictures a second | memory after a tenth | in the middle | at the end | most |")
    print("| --- | --- | --- | --- | --- | --- |")
    result: dict[str, Any] = {"ratio": round(ratio, 2), "alpha_largest_difference": largest, "servers": {}}
    for name, taken in memory.items():
        values = [size for _, _, size in taken.samples]
        count = len(values)
        tenth, middle, end = (
            statistics.median(part)
            for part in (
                values[count // 10 : count // 5 + 1],
                values[count * 4 // 10 : count * 6 // 10 + 1],
                values[count * 9 // 10 :],
            )
        )
        print(
            f"| {name} | {medians[name]:.2f} | {tenth / 2**20:.0f} MiB | {middle / 2**20:.0f} MiB | "
            f"{end / 2**20:.0f} MiB | {max(values) / 2**20:.0f} MiB |"
        )
        result["servers"][name] = {
            "pictures_per_s": [round(rate, 3) for rate in rates[name]],
            "memory_after_a_tenth_bytes": tenth,
            "memory_in_the_middle_bytes": middle,
            "memory_at_the_end_bytes": end,
            "memory_most_bytes": max(values),
            "memory_samples": [(round(at_s, 1), done, size) for at_s, done, size in taken.samples],
        }
    print(f"bgrem answers {ratio:.2f} times as many pictures; largest difference of opacity: {largest} levels")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.plot:
        plot(memory, arguments.plot)


def load(
    server: Server,
    pictures: list[bytes],
    *,
    clients: int,
    seconds: float | None = None,
    requests_limit: int | None = None,
) -> tuple[int, float, Memory]:
    """Pictures answered, seconds taken, memory meanwhile. Every answer must be 200."""
    lock = threading.Lock()
    begun, done = 0, 0
    failures: list[str] = []
    started_s = time.monotonic()
    memory = Memory()
    finished = threading.Event()

    def client() -> None:
        nonlocal begun, done
        with requests.Session() as session:
            while True:
                with lock:
                    if failures or (requests_limit is not None and begun >= requests_limit):
                        return
                    if seconds is not None and time.monotonic() - started_s >= seconds:
                        return
                    picture = pictures[begun % len(pictures)]
                    begun += 1
                answer = session.post(
                    f"{server.url}/api/remove",
                    files={"file": ("photo.jpg", picture)},
                    data={"model": MODEL},
                    timeout=REQUEST_TIMEOUT_S,
                )
                with lock:
                    if answer.status_code != 200:
                        failures.append(f"{server.name}: {answer.status_code} {answer.text[:200]}")
                        return
                    done += 1

    def watch() -> None:
        while not finished.wait(SAMPLE_S):
            memory.samples.append((time.monotonic() - started_s, done, resident_bytes(server.process)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - started_s
    finished.set()
    watcher.join()
    if failures:
        raise SystemExit(failures[0])
    memory.samples.append((took_s, done, resident_bytes(server.process)))
    return done, took_s, memory


def resident_bytes(process: psutil.Process) -> int:
    total = 0
    for part in [process, *process.children(recursive=True)]:
        try:
            total += part.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def largest_difference(ours: Server, theirs: Server, pictures: list[bytes]) -> int:
    largest = 0
    for picture in pictures:
        alphas = []
        for server in (ours, theirs):
            answer = requests.post(
                f"{server.url}/api/remove", files={"file": picture}, data={"model": MODEL}, timeout=REQUEST_TIMEOUT_S
            )
            answer.raise_for_status()
            alphas.append(np.asarray(Image.open(io.BytesIO(answer.content)))[..., 3].astype(int))
        largest = max(largest, int(np.abs(alphas[0] - alphas[1]).max()))
    return largest


@contextmanager
def bgrem_server(folder: Path, weights: Path) -> Iterator[Server]:
    service = LocalService(
        "enlight.bgrem.app:create_app()",
        gunicorn_config=ROOT / "bgrem" / "gunicorn.conf.py",
        env_prefix="BGREM_",
        settings={"WEIGHTS_FOLDER": str(weights.absolute()), "DEVICE": "cpu", "LOG_LEVEL": "warning"},
        log=folder / "bgrem.log",
    )
    with service:
        yield Server("bgrem", service.url, psutil.Process(service.pid))


@contextmanager
def rembg_server(folder: Path, weights: Path) -> Iterator[Server]:
    command = rembg_command()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "rembg.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(command), "s", "--host", "127.0.0.1", "--port", str(port), "--no-ui", "--log_level", "warning"],
            env=child_environment({"U2NET_HOME": str(weights.absolute()), "BROWSER": "true"}),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not answers(f"{url}/openapi.json"):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"rembg s did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield Server("rembg s", url, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rembg_command() -> Path:
    """rembg's command in an environment of its own: what its server needs must not come into ours."""
    folder = ROOT / ".bench" / "rembg-s"
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != REQUIREMENT:
        print(f"making {folder} with {REQUIREMENT}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", REQUIREMENT]
        subprocess.run(install, check=True, stdout=sys.stderr)
        stamp.write_text(REQUIREMENT)
    return folder / "bin" / "rembg"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def plot(memory: dict[str, Memory], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, taken in memory.items():
        axes.plot([done for _, done, _ in taken.samples], [size / 2**20 for _, _, size in taken.samples], label=name)
    axes.set_xlabel("requests answered")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
