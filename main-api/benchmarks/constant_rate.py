"""Reads at a constant arrival rate: each is due at its time, whether or not the earlier ones have been answered.

A read's latency counts from when it was due, so that a server that falls behind cannot hide it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Latencies:
    """Of one run, in milliseconds."""

    p50_ms: float
    p99_ms: float
    largest_ms: float
    answered_per_s: float
    errors: int


async def read_at(
    urls: Sequence[str], paths: Sequence[str], headers: str, *, rate_per_s: int, seconds: float, connections: int
) -> Latencies:
    """Sends ``rate_per_s * seconds`` reads of ``paths`` in turns over kept-open connections, to ``urls`` in turns."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for number in range(connections):
        parts = urlsplit(urls[number % len(urls)])
        free.put_nowait(await asyncio.open_connection(parts.hostname, parts.port))
    requests = itertools.cycle(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() for path in paths)
    latencies_s: list[float] = []
    errors = 0

    async def read(due_s: float) -> None:
        nonlocal errors
        reader, writer = await free.get()
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        free.put_nowait((reader, writer))
        latencies_s.append(time.perf_counter() - due_s)
        errors += not head.startswith(b"HTTP/1.1 200")

    with _no_garbage_collection():
        started_s = time.perf_counter()
        reads = []
        for number in range(int(rate_per_s * seconds)):
            due_s = started_s + number / rate_per_s
            if (early_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            reads.append(asyncio.create_task(read(due_s)))
        await asyncio.gather(*reads)
    took_s = time.perf_counter() - started_s
    while not free.empty():
        free.get_nowait()[1].close()
    p50_s, p99_s = np.percentile(latencies_s, [50, 99])
    return Latencies(1000 * p50_s, 1000 * p99_s, 1000 * max(latencies_s), len(reads) / took_s, errors)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The client's own pauses, of a tenth of a second with this many tasks, are not the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
