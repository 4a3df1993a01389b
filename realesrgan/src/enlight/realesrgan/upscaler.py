"""One picture from its file to the enlarged file: what the worker does with a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from enlight.realesrgan.faces import FaceFinder, restore_faces
from enlight.realesrgan.memory import default_budget_bytes
from enlight.realesrgan.models import MODELS, ModelSpec
from enlight.realesrgan.networks import Networks
from enlight.realesrgan.pure.alpha import with_visible_colours_spread
from enlight.realesrgan.pure.passes import budget_values, canvas_pixels, new_canvas, resized, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import PassPlan, Size, plan_passes
from enlight.realesrgan.pure.staged_networks import Check, StagedNetwork
from enlight.realesrgan.requests import UpscaleRequest, UpscaleResult
from enlight.servicekit.images import Picture, decode_picture, encode_jpeg, encode_png, encode_webp
from enlight.servicekit.task_pool import RunningTask
from enlight.torchkit.gpu_errors import is_out_of_memory, named_gpu_errors

LOCK_POLL_S = 0.2
"""How soon a request that waits for the network notices that its client left."""

EVENTS_IN_FLIGHT = 3
"""Pieces of work that a GPU is told of in advance."""

AnyPixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Work:
    """What the network is to do.

    Attributes:
        network: Of the model.
        plan: Sizes.
        is_16_bit: Whether the picture has more than 8 bits.
    """

    network: StagedNetwork
    plan: PassPlan
    is_16_bit: bool


class Upscaler:
    """Handles requests, several at a time: one uses the network while others decode or encode.

    Args:
        networks: The worker's.
        device: Where they live.
        memory_bytes: For one pass's tile; 0: chosen.
    """

    def __init__(self, networks: Networks, *, device: torch.device, memory_bytes: int) -> None:
        self._networks = networks
        self._device = device
        self._memory_bytes = memory_bytes
        self._finder = FaceFinder(networks)
        self._device_lock = threading.Lock()
        self._pictures = 0
        self._out_of_memory = 0

    @property
    def counts(self) -> dict[str, int]:
        """Pictures made, and times that memory was short, since the start."""
        return {"pictures_total": self._pictures, "out_of_memory_total": self._out_of_memory}

    def handle(self, task: RunningTask) -> UpscaleResult:
        """The answer to a request.

        Raises:
            BrokenImage, UnsupportedImage, ImageTooLarge: the picture.
            WeightsUnavailable, CorruptModel: the model's files.
            OutOfGpuMemory: not even a small tile fits.
            WorkerBroken: the GPU failed.
            Cancelled: nobody waits any more.
        """
        request = task.payload
        assert isinstance(request, UpscaleRequest)
        began_s = time.perf_counter()
        with task.stage("decode"):
            picture = decode_picture(request.data, request.field, keep_16_bit=True)
        spec = MODELS[request.model_name]
        size = Size(picture.height_px, picture.width_px)
        plan = plan_passes(size, long_side=request.out_resolution_px, scale=spec.scale)
        task.check()
        decoded_s = time.perf_counter()
        with task.stage("run"), named_gpu_errors(), torch.inference_mode():
            work = Work(self._network(request, spec, picture), plan, picture.is_16_bit)
            with self._device_for(task):
                network_began_s = time.perf_counter()
                pixels, faces = self._enlarge(request, picture, work, task.check)
        computed_s = time.perf_counter()
        with task.stage("encode"):
            data = encode(pixels, request)
        self._pictures += 1
        return UpscaleResult(
            data=data,
            image_format=request.image_format,
            width_px=pixels.shape[1],
            height_px=pixels.shape[0],
            passes=len(plan.passes),
            faces=faces,
            decode_s=decoded_s - began_s,
            network_s=computed_s - network_began_s,
            encode_s=time.perf_counter() - computed_s,
        )

    @contextmanager
    def _device_for(self, task: RunningTask) -> Iterator[None]:
        while not self._device_lock.acquire(timeout=LOCK_POLL_S):
            task.check()
        try:
            yield
        finally:
            self._device_lock.release()

    def _network(self, request: UpscaleRequest, spec: ModelSpec, picture: Picture) -> StagedNetwork:
        """The request's network. Every file that the request needs is asked for now, so that a missing one is told
        before the work, and before the wait for the device."""
        if request.face_enhance:
            self._networks.detector_path()
            self._networks.restorer()
        dtype = self._dtype(is_16_bit=picture.is_16_bit)
        return self._networks.get(spec, denoise_strength=request.denoise_strength, dtype=dtype)

    def _enlarge(self, request: UpscaleRequest, picture: Picture, work: Work, check: Check) -> tuple[AnyPixels, int]:
        """The enlarged picture, (H, W, 3 or 4), and how many faces were restored."""
        faces = self._finder.find(_as_8_bits(picture.colour)) if request.face_enhance else []
        colour = picture.colour
        if picture.alpha is not None:
            colour = with_visible_colours_spread(colour, picture.alpha)
        enlarged = self._run(work, colour, check)
        if faces:
            restore_faces(self._networks, faces, colour, enlarged, device=self._device, check=check)
        if picture.alpha is None:
            return enlarged, len(faces)
        layers: list[NDArray[Any]] = [enlarged, self._enlarged_alpha(work, picture.alpha, check)]
        return np.dstack(layers), len(faces)

    def _enlarged_alpha(self, work: Work, alpha: AnyPixels, check: Check) -> AnyPixels:
        final = work.plan.passes[-1]
        if alpha.min() == alpha.max():
            return np.full((final.height, final.width), alpha.flat[0], alpha.dtype)
        return self._run(work, _grey(alpha), check)[..., 0]

    def _run(self, work: Work, pixels: AnyPixels, check: Check) -> AnyPixels:
        """(H, W, 3) through all passes. A grey picture stays grey."""
        is_grey = bool((pixels[..., :1] == pixels[..., 1:]).all())
        while True:
            try:
                enlarged = self._run_passes(work, pixels, check)
                break
            except Exception as error:
                if not is_out_of_memory(error) or not self._shrink_budget(work):
                    raise
        if not is_grey:
            return enlarged
        return _grey(cv2.cvtColor(enlarged, cv2.COLOR_RGB2GRAY))

    def _run_passes(self, work: Work, pixels: AnyPixels, check: Check) -> AnyPixels:
        dtype = self._dtype(is_16_bit=work.is_16_bit)
        budget = budget_values(self._budget_bytes(), dtype)
        current = to_tensor(pixels, device=self._device, dtype=dtype)
        if work.plan.start != Size(*pixels.shape[:2]):
            current = resized(current, work.plan.start).to(dtype)
        for size in work.plan.passes[:-1]:
            current = run_pass(work.network, current, size, budget=budget, check=self._synchronised(check))
        final = work.plan.passes[-1]
        canvas = new_canvas(final, is_16_bit=work.is_16_bit, device=self._device)
        run_pass(work.network, current, final, budget=budget, check=self._synchronised(check), canvas=canvas)
        return canvas_pixels(canvas)

    def _synchronised(self, check: Check) -> Check:
        """A GPU is told what to do long before it does it: without waiting, a client that leaves would free nothing."""
        if self._device.type != "cuda":
            return check

        events: list[torch.cuda.Event] = []

        def check_in_step() -> None:
            if len(events) > EVENTS_IN_FLIGHT:
                events.pop(0).synchronize()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            events.append(event)
            check()

        return check_in_step

    def _dtype(self, *, is_16_bit: bool) -> torch.dtype:
        # fp16 has 11 bits: a picture of 16 would come out in steps.
        return torch.float16 if self._device.type == "cuda" and not is_16_bit else torch.float32

    def _budget_bytes(self) -> int:
        return self._memory_bytes or default_budget_bytes(self._device)

    def _shrink_budget(self, work: Work) -> bool:
        """Half the memory from now on; False when there is nothing left to halve."""
        dtype = self._dtype(is_16_bit=work.is_16_bit)
        halved = budget_values(self._budget_bytes(), dtype).halved()
        if halved is None:
            return False
        self._out_of_memory += 1
        self._memory_bytes = halved.values * torch.finfo(dtype).bits // 8
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True


def encode(pixels: AnyPixels, request: UpscaleRequest) -> bytes:
    """The file that was asked for; JPEG has no transparency, so it is laid on white."""
    if request.image_format == "png":
        return encode_png(pixels)
    small = _as_8_bits(pixels)
    if request.image_format == "webp":
        return encode_webp(small, request.quality or 90)
    if small.shape[2] == 4:
        alpha = small[..., 3:].astype(np.uint16)
        small = ((small[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return encode_jpeg(small, request.quality or 95)


def _grey(values: NDArray[Any]) -> AnyPixels:
    """(H, W) as (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def _as_8_bits(pixels: AnyPixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
