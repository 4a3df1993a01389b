"""Fine-tuned weights above the disk: in the buffers, on the GPU, in host memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from enlight.dreambooth_api.fine_tune import FineTune
from enlight.dreambooth_api.lru_cache import LruCache
from enlight.dreambooth_api.requests import CacheTier
from enlight.dreambooth_api.weight_buffers import WeightBuffers

MAX_TOLD = 100
"""Models of a tier that are told of: it is done after every batch."""


class WeightTiers:
    """Fine-tuned weights above the disk: on the GPU, then in host memory, both least recently used first.

    Args:
        device: Where the buffers are. A CPU has no tier of its own above host memory.
        gpu_cache_bytes: Quota on the GPU.
        host_cache_bytes: Quota in host memory.
    """

    def __init__(self, device: torch.device, *, gpu_cache_bytes: int, host_cache_bytes: int) -> None:
        self._device = device
        self.gpu: LruCache[FineTune] = LruCache(gpu_cache_bytes if device.type == "cuda" else 0)
        self.host: LruCache[FineTune] = LruCache(host_cache_bytes)

    def holds(self, version: str) -> bool:
        """Whether this version can be switched to without the disk."""
        return self.gpu.get(version) is not None or self.host.get(version) is not None

    def told(self, buffers: WeightBuffers | None) -> Mapping[CacheTier, Sequence[str]]:
        """Versions in ``buffers``, and the most recently used ones of each tier."""
        version = buffers.resident if buffers is not None else None
        return {
            "resident": [version] if version is not None else [],
            "gpu": self.gpu.keys()[-MAX_TOLD:],
            "host": self.host.keys()[-MAX_TOLD:],
        }

    def switch(self, buffers: WeightBuffers, version: str, read: Callable[[], FineTune]) -> CacheTier | None:
        """Puts a version into the buffers; says where it was, None if ``read`` had to get it.

        Raises:
            CorruptModel: it does not fit its base; nothing is kept of it, the buffers are as they were.
            Exception: what ``read`` raises, then the buffers are as they were; or copying failed, then they
                hold the plain base.
        """
        if buffers.resident == version:
            return "resident"
        on_gpu = self.gpu.get(version)
        if on_gpu is not None:
            buffers.switch_to(on_gpu)
            return "gpu"
        in_host = self.host.get(version)
        fine_tune = in_host or read()
        staged = self._staged(fine_tune)
        buffers.switch_to(staged or fine_tune)
        if staged is not None:
            self.gpu.put(version, staged, staged.size_bytes)
        if in_host is not None:
            return "host"
        self.host.put(version, fine_tune, fine_tune.size_bytes)
        return None

    def _staged(self, fine_tune: FineTune) -> FineTune | None:
        """A copy on the GPU, where its tier has room for it."""
        if not self.gpu.make_room(fine_tune.size_bytes):
            return None
        try:
            return fine_tune.on_device(self._device)
        except torch.OutOfMemoryError:
            self.gpu.clear()  # a cache must not be why a picture cannot be made
            return None
