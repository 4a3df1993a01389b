"""A generation on its way through the engine."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from enlight.dreambooth_api.admission import Admitted
from enlight.dreambooth_api.requests import CacheTier, GenerationProgress, GenerationRequest, GenerationResult
from enlight.servicekit.child import Task
from enlight.servicekit.tracing import Stage


@dataclass(eq=False)
class Generation:
    """One request: what was settled about it, and how far it is.

    The thread of the GPU writes when a batch of it starts; encoder threads bring pictures. ``close`` may come
    from any thread, and only the first caller answers the task.
    """

    task: Task
    request: GenerationRequest
    arrived_s: float
    """Monotonic clock, as all times here."""
    admitted: Admitted | None = None
    """None until the model's files are here."""
    started_s: float | None = None
    batch_images: int = 0
    cache_tier: CacheTier = "resident"
    scheduler: str = ""
    stages: list[Stage] = field(default_factory=list)
    """What was done for it, in this order."""
    _images: dict[int, bytes] = field(default_factory=dict)
    _denoised: int = 0
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def closed(self) -> bool:
        """True once it was answered: nothing more should be done for it."""
        return self._closed

    def admit(self, admitted: Admitted) -> bool:
        """Takes over what was settled; False when nobody waits for it any more, then the files are let go."""
        with self._lock:
            if not self._closed:
                self.admitted = admitted
                return True
        admitted.lease.close()
        return False

    def close(self) -> bool:
        """Lets go of the model's files; True for the first caller, who has to answer the task."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
        if self.admitted is not None:
            self.admitted.lease.close()
        return True

    def start(self, cache_tier: CacheTier, scheduler: str) -> None:
        """A batch that holds images of it begins."""
        if self.started_s is None:
            self.started_s, self.cache_tier, self.scheduler = time.monotonic(), cache_tier, scheduler

    def add_batch(self, *stages: Stage) -> None:
        """What a batch that held images of it took; before the first one it waited."""
        if not self.stages:
            self.stages.append(Stage("queued", self.arrived_s, stages[0].began_s))
        self.stages.extend(stages)

    def denoised(self, batch_images: int) -> None:
        """One of its pictures left the GPU, in a batch of this size."""
        self._denoised += 1
        self.batch_images = max(self.batch_images, batch_images)

    def progress(self, step: int, steps: int) -> GenerationProgress:
        """How far it is, after a step of a batch."""
        return GenerationProgress(images_done=self._denoised, images=self.request.count, step=step, steps=steps)

    def add_image(self, image: int, encoded: bytes) -> bool:
        """Takes an encoded picture; True when it was the last one."""
        with self._lock:
            self._images[image] = encoded
            return len(self._images) == self.request.count

    def result(self) -> GenerationResult:
        """The answer, once all pictures are there."""
        assert self.admitted is not None
        assert self.started_s is not None
        key = self.admitted.key
        now_s = time.monotonic()
        encoded = [Stage("encode", self.stages[-1].ended_s, now_s)] if self.stages else []
        return GenerationResult(
            images=tuple(self._images[image] for image in range(self.request.count)),
            model_id=self.request.model_id,
            model_version=self.admitted.model_version,
            base_name=key.base_name,
            seed=self.request.seed,
            steps=key.steps,
            strength=self.request.init_image.strength if self.request.init_image else None,
            guidance_scale=self.request.guidance_scale,
            scheduler=self.scheduler,
            width_px=key.width_px,
            height_px=key.height_px,
            image_format=self.request.image_format,
            batch_images=self.batch_images,
            cache_tier=self.cache_tier,
            queued_s=self.started_s - self.arrived_s,
            run_s=now_s - self.started_s,
            stages=(*self.stages, *encoded),
        )


@dataclass(frozen=True, eq=False)
class Row:
    """One picture of a batch."""

    generation: Generation
    image: int

    @property
    def seed(self) -> int:
        """Of the picture's own generator."""
        return self.generation.request.seed + self.image
