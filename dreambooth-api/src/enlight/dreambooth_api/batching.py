"""Which waiting images are denoised together: slots in order of arrival, batches of one key. No torch.

A request of ten pictures is ten slots. A batch takes slots of one key, across requests; the slot that has
waited longest decides the key, so no key can starve another.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

BeginsFrom = Literal["noise", "image", "masked image"]


@dataclass(frozen=True)
class BatchKey:
    """What images must share to go through the U-Net together."""

    base_name: str
    model_version: str | None
    """``model_id@version`` of the fine-tuned weights; None for the plain base."""
    width_px: int
    height_px: int
    steps: int
    guided: bool
    """Whether the U-Net also runs on the negative prompt (guidance scale above 1)."""
    begins_from: BeginsFrom = "noise"
    first_step: int = 0
    """Steps before it are left out; other than 0 only with a picture."""


@dataclass(frozen=True)
class Slot:
    """One picture of one request."""

    request_id: int
    image: int
    """Index of the picture within its request."""


@dataclass
class _Waiting:
    request_id: int
    key: BatchKey
    arrived_s: float
    images: deque[int] = field(default_factory=deque)


class SlotQueue:
    """Slots that wait for a batch, in order of arrival. Not thread-safe: its owner holds a lock.

    Args:
        max_batch_images: Most slots of a batch.
        window_s: How long the oldest slot waits for others to fill its batch. A queue that waited behind a
            running batch has spent this time already, so only the first request of an idle engine feels it.
    """

    def __init__(self, *, max_batch_images: int, window_s: float) -> None:
        if max_batch_images < 1:
            raise ValueError(f"max_batch_images must be at least 1, not {max_batch_images}")
        self._max_batch_images = max_batch_images
        self._window_s = window_s
        self._waiting: dict[int, _Waiting] = {}  # a dict keeps the order of arrival

    def __len__(self) -> int:
        return sum(len(waiting.images) for waiting in self._waiting.values())

    def add(self, request_id: int, key: BatchKey, count: int, *, now_s: float) -> None:
        """Queue ``count`` slots of a request that has none queued yet."""
        if request_id in self._waiting:
            raise ValueError(f"request {request_id} is queued already")
        if count < 1:
            raise ValueError(f"a request has at least one image, not {count}")
        self._waiting[request_id] = _Waiting(request_id, key, now_s, deque(range(count)))

    def cancel(self, request_id: int) -> int:
        """Forget a request's waiting slots (those of a running batch do not wait); returns their number."""
        waiting = self._waiting.pop(request_id, None)
        return len(waiting.images) if waiting else 0

    def request_ids(self) -> list[int]:
        """Requests with waiting slots, oldest first."""
        return list(self._waiting)

    def next_key(self) -> BatchKey | None:
        """Key of the next batch, as things stand."""
        oldest = next(iter(self._waiting.values()), None)
        return oldest.key if oldest else None

    def delay_s(self, now_s: float) -> float | None:
        """Seconds until the next batch should be taken, 0 when it should be now, None when nothing waits."""
        oldest = next(iter(self._waiting.values()), None)
        if oldest is None:
            return None
        same_key = sum(len(waiting.images) for waiting in self._waiting.values() if waiting.key == oldest.key)
        if same_key >= self._max_batch_images:
            return 0.0
        return max(0.0, oldest.arrived_s + self._window_s - now_s)

    def take(self) -> tuple[BatchKey, list[Slot]] | None:
        """The next batch: up to ``max_batch_images`` slots of the oldest slot's key; None when empty."""
        key = self.next_key()
        if key is None:
            return None
        batch: list[Slot] = []
        for waiting in [waiting for waiting in self._waiting.values() if waiting.key == key]:
            while waiting.images and len(batch) < self._max_batch_images:
                batch.append(Slot(waiting.request_id, waiting.images.popleft()))
            if waiting.images:
                break
            del self._waiting[waiting.request_id]
        return key, batch
