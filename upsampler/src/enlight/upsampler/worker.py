"""What runs in the supervised child process: pictures in, enlarged pictures out, one at a time on the device."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from enlight.servicekit.child import ChildChannel
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import (
    decode_picture,
    encode_jpeg,
    encode_jpeg_within,
    encode_png,
    encode_webp,
)
from enlight.servicekit.task_pool import RunningTask, serve_tasks
from enlight.torchkit.device import choose_device, device_state
from enlight.torchkit.gpu_errors import is_out_of_memory, named_gpu_errors
from enlight.upsampler.pure.low_resolution import low_resolution, on_white, result_alpha
from enlight.upsampler.pure.sizes import plan_sizes
from enlight.upsampler.pure.upscaling import Check, Conditioning, UpscalingModel, WindowSizes, is_guided, upscale
from enlight.upsampler.requests import OPERATION, ImageFormat, UpscaleRequest, UpscaleResult, WorkerConfig
from enlight.upsampler.upscaler_model import UpscalerModel
from enlight.upsampler.weights import MODEL, ModelFolder

THREADS = 2
"""One task computes while another is decoded or encoded."""
LOCK_POLL_S = 0.2
"""How soon a task that waits for the device notices that nobody waits for it."""

Pixels = NDArray[np.uint8]


class Network(Protocol):
    """Computes an enlarged picture; ``pure.upscaling.upscale``."""

    def __call__(
        self,
        model: UpscalingModel,
        low: torch.Tensor,
        conditioning: Conditioning,
        *,
        seed: int,
        steps: int,
        windows: WindowSizes,
        check: Check | None,
    ) -> torch.Tensor:
        """As ``pure.upscaling.upscale``."""
        ...


def main(channel: ChildChannel, config: WorkerConfig) -> None:
    """Serves upscales until the parent asks this process to end.

    Raises:
        WorkerBroken: the GPU failed; the process has to end, its parent starts another.
    """
    device = choose_device(config.device)
    if device.type == "cpu" and config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    upscaler = Upscaler(config, device)
    serve_tasks(channel, upscaler.handle, threads=THREADS, state=upscaler.state, operation=OPERATION)


class Upscaler:
    """Holds the model, which is loaded when the first picture needs it.

    Args:
        config: Folder and windows.
        device: Where the networks run.
        network: What computes; an argument, so that a test can make it fail.
    """

    def __init__(self, config: WorkerConfig, device: torch.device, network: Network = upscale) -> None:
        self._folder = ModelFolder(config.weights_folder, sha256=config.weights_sha256)
        self._windows = WindowSizes(config.unet_window, config.vae_window)
        self._device = device
        self._network = network
        self._device_lock = threading.Lock()
        # below: under the lock, or written by whoever holds it
        self._model: UpscalerModel | None = None
        self._images = 0
        self._out_of_memory = 0

    def state(self) -> Mapping[str, object]:
        """For ``/ready``, ``/metrics`` and ``/v1/status``."""
        return {
            **device_state(self._device),
            "model": MODEL,
            "loaded": [MODEL] if self._model is not None else [],
            "weights_here": not self._folder.missing(),
            "images_total": self._images,
            "out_of_memory_total": self._out_of_memory,
        }

    def handle(self, task: RunningTask) -> UpscaleResult:
        """The answer to an `UpscaleRequest`.

        Raises:
            UnsupportedImage, ImageTooLarge, BrokenImage: the picture cannot be read.
            InvalidField: the noise level is above the model's.
            WeightsUnavailable, CorruptModel: the model is not there, or damaged.
            OutOfGpuMemory: not even smaller windows fit.
            WorkerBroken: the GPU failed.
        """
        request = task.payload
        assert isinstance(request, UpscaleRequest)
        began_s = time.monotonic()
        with task.stage("decode"):
            picture = decode_picture(request.image, request.image_field)
        model = self._loaded(task)
        if request.noise_level > model.max_noise_level:
            raise InvalidField.of("noise_level", f"must be at most {model.max_noise_level} for this model")
        sizes = plan_sizes(
            picture.width_px, picture.height_px, resolution_px=request.resolution_px, multiple=model.size_multiple
        )
        low = low_resolution(cast(Pixels, picture.colour), cast(Pixels | None, picture.alpha), sizes)
        with task.stage("run"), self._device_free(task), named_gpu_errors():
            colour, windows = self._compute(task, model, low)
        colour = np.ascontiguousarray(colour[: sizes.result[1], : sizes.result[0]])
        alpha = None if picture.alpha is None else result_alpha(cast(Pixels, picture.alpha), sizes)
        with task.stage("encode"):
            image, image_format = _encoded(colour, alpha, request.image_format, request.max_bytes)
        return UpscaleResult(
            image=image,
            image_format=image_format,
            width_px=sizes.result[0],
            height_px=sizes.result[1],
            windows=windows,
            run_s=time.monotonic() - began_s,
        )

    def _loaded(self, task: RunningTask) -> UpscalerModel:
        with self._device_free(task), named_gpu_errors():
            if self._model is None:
                self._folder.require()
                weights_dtype = torch.float16 if self._device.type == "cuda" else torch.float32
                self._model = UpscalerModel.load(self._folder.path, device=self._device, weights_dtype=weights_dtype)
            return self._model

    @contextmanager
    def _device_free(self, task: RunningTask) -> Iterator[None]:
        """Waits until no other task has the device."""
        while not self._device_lock.acquire(timeout=LOCK_POLL_S):
            task.check()
        try:
            task.check()
            yield
        finally:
            self._device_lock.release()

    def _compute(self, task: RunningTask, model: UpscalerModel, low: Pixels) -> tuple[Pixels, tuple[int, int]]:
        """The enlarged ``low`` (h, w, 3), and in how many windows it was made.

        When memory is short the windows are made smaller, once.
        """
        windows = self._windows
        pixels = self._attempt(task, model, low, windows)
        if pixels is None:
            self._out_of_memory += 1
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            windows = windows.halved()
            pixels = self._upscaled(task, model, low, windows)
        self._images += 1
        unet_grid, vae_grid = windows.grids(low.shape[0], low.shape[1], model.size_multiple)
        return pixels, (unet_grid.count, vae_grid.count)

    def _attempt(self, task: RunningTask, model: UpscalerModel, low: Pixels, windows: WindowSizes) -> Pixels | None:
        """None when memory was short."""
        try:
            return self._upscaled(task, model, low, windows)
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None  # leaving the handler frees what the trace holds on to
            raise

    @torch.inference_mode()
    def _upscaled(self, task: RunningTask, model: UpscalerModel, low: Pixels, windows: WindowSizes) -> Pixels:
        request = task.payload
        assert isinstance(request, UpscaleRequest)

        def check(done: int, runs: int) -> None:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)  # else the CPU runs ahead, and a cancellation comes late
            task.check()

        guided = is_guided(request.guidance_scale)
        conditioning = Conditioning(
            embeddings=model.encode_prompt(request.prompt),
            negative_embeddings=model.encode_prompt(request.negative_prompt) if guided else None,
            guidance_scale=request.guidance_scale,
            noise_level=request.noise_level,
        )
        picture = self._network(
            model,
            torch.from_numpy(low).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1,
            conditioning,
            seed=request.seed,
            steps=request.steps,
            windows=windows,
            check=check,
        )
        rgb = ((picture[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        return rgb.cpu().numpy()


def _encoded(
    colour: Pixels, alpha: Pixels | None, image_format: ImageFormat, max_bytes: int | None
) -> tuple[bytes, ImageFormat]:
    """The file, and what it is. JPEG has no transparency: it shows the picture on white."""
    opaque = colour if alpha is None else on_white(colour, alpha)
    if image_format == "jpeg":
        return encode_jpeg(opaque), "jpeg"
    pixels = colour if alpha is None else np.dstack([colour, alpha])
    if image_format == "webp":
        return encode_webp(pixels), "webp"
    png = encode_png(pixels)
    if max_bytes is not None and len(png) > max_bytes:
        return encode_jpeg_within(opaque, max_bytes), "jpeg"
    return png, "png"
