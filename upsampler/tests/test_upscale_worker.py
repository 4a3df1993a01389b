"""The worker's answer to one request: sizes, formats, transparency, memory, cancellation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from upsampler_service import Pixels, decoded, photo

from enlight.servicekit.child import ChildChannel, Task
from enlight.servicekit.errors import BrokenImage, Cancelled, InvalidField, OutOfGpuMemory, UnsupportedImage
from enlight.servicekit.images import encode_png
from enlight.servicekit.task_pool import RunningTask, WorkerBroken
from enlight.upsampler.pure.sizes import SCALE
from enlight.upsampler.pure.upscaling import WindowSizes
from enlight.upsampler.requests import UpscaleRequest, WorkerConfig
from enlight.upsampler.weights import MODEL
from enlight.upsampler.worker import Upscaler, _encoded

CPU = torch.device("cpu")


class Desk:
    """The part of a channel that a running task uses; ``leave_after`` checks its client is gone."""

    def __init__(self, leave_after: int | None = None) -> None:
        self.checks = 0
        self._leave_after = leave_after

    def cancelled(self, task_id: int) -> bool:
        self.checks += 1
        return self._leave_after is not None and self.checks > self._leave_after

    def progress(self, task_id: int, payload: object) -> None:
        pass


def task(desk: Desk | None = None, **changes: Any) -> RunningTask:
    values: dict[str, Any] = {
        "image": encode_png(photo(120, 90)),
        "image_field": "image",
        "prompt": "a cat",
        "negative_prompt": "",
        "resolution_px": 1024,
        "seed": 0,
        "steps": 1,
        "guidance_scale": 1.0,
        "noise_level": 20,
        "image_format": "png",
        **changes,
    }
    return RunningTask(cast(ChildChannel, desk or Desk()), Task(1, UpscaleRequest(**values)))


def config(folder: Path) -> WorkerConfig:
    return WorkerConfig(
        device="cpu", cpu_threads=1, weights_folder=folder, weights_sha256={}, unet_window=160, vae_window=96
    )


def enlarging(model: Any, low: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """In the place of the networks: pixels enlarged as they are."""
    return low.repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3)


class ShortOfMemory:
    """In the place of the networks: the first ``failures`` calls fail with ``error``."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.windows: list[WindowSizes] = []
        self._error = error
        self._failures = failures

    def __call__(self, model: Any, low: torch.Tensor, *_: Any, windows: WindowSizes, **__: Any) -> torch.Tensor:
        self.windows.append(windows)
        if len(self.windows) <= self._failures:
            raise self._error
        return enlarging(model, low)


@pytest.fixture(scope="module")
def upscaler(tiny_folder: Path) -> Upscaler:
    return Upscaler(config(tiny_folder), CPU)


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> Upscaler:
    return Upscaler(config(tiny_folder), CPU, enlarging)


@pytest.mark.parametrize("size", [(120, 90), (90, 120), (97, 33), (1, 1), (700, 3)])
def test_the_result_has_exactly_its_size(plain: Upscaler, size: tuple[int, int]) -> None:
    result = plain.handle(task(image=encode_png(photo(*size))))
    width, height = (max(1, round(side * 1024 / max(size))) for side in size)
    assert (result.width_px, result.height_px) == (width, height)
    assert decoded(result.image).shape == (height, width, 3)


def test_the_result_shows_the_input_where_it_was(plain: Upscaler) -> None:
    pixels = photo(200, 150)
    shown = decoded(plain.handle(task(image=encode_png(pixels))).image)
    again = cv2.resize(shown, (200, 150), interpolation=cv2.INTER_AREA)
    difference = np.abs(again.astype(int) - pixels)
    assert difference.mean() < 3
    mirrored = np.abs(again[::-1].astype(int) - pixels).mean()
    assert mirrored > 20


def test_the_same_request_gives_the_same_file(upscaler: Upscaler) -> None:
    first, second = (upscaler.handle(task()) for _ in range(2))
    assert first.image == second.image
    assert first.windows == (4, 9)
    assert upscaler.handle(task(seed=1)).image != first.image


def test_guidance_uses_the_negative_prompt(upscaler: Upscaler) -> None:
    one, other = (
        upscaler.handle(task(guidance_scale=5.0, negative_prompt=negative)).image for negative in ("", "ugly, blurred")
    )
    assert one != other
    unguided = [upscaler.handle(task(negative_prompt=negative)).image for negative in ("", "ugly, blurred")]
    assert unguided[0] == unguided[1]


def with_alpha(pixels: Pixels) -> Pixels:
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[:, pixels.shape[1] // 2 :] = 255
    return np.dstack([pixels, alpha])


def test_transparency_is_kept(plain: Upscaler) -> None:
    pixels = with_alpha(photo(120, 90))
    for image_format in ("png", "webp"):
        shown = decoded(plain.handle(task(image=encode_png(pixels), image_format=image_format)).image)
        assert shown.shape == (768, 1024, 4)
        assert (shown[:, :480, 3] == 0).all()
        assert (shown[:, 544:, 3] == 255).all()


def test_jpeg_shows_transparency_on_white(plain: Upscaler) -> None:
    result = plain.handle(task(image=encode_png(with_alpha(photo(120, 90))), image_format="jpeg"))
    shown = decoded(result.image)
    assert (result.image_format, shown.shape) == ("jpeg", (768, 1024, 3))
    assert shown[:, :480].min() > 240


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_a_png_within_the_limit_stays_a_png() -> None:
    colour = photo(256, 256)
    png = encode_png(colour)
    assert _encoded(colour, None, "png", len(png)) == (png, "png")
    assert _encoded(colour, None, "png", None) == (png, "png")


@pytest.mark.parametrize("has_alpha", [False, True])
def test_a_png_over_the_limit_becomes_the_best_jpeg_within_it(has_alpha: bool) -> None:
    colour = noise(256, 256)
    alpha = np.full((256, 256), 128, np.uint8) if has_alpha else None
    limit = 60_000
    data, image_format = _encoded(colour, alpha, "png", limit)
    assert (image_format, data[:3]) == ("jpeg", b"\xff\xd8\xff")
    assert 0.9 * limit < len(data) <= limit


def test_broken_pictures_are_the_clients_error(plain: Upscaler) -> None:
    with pytest.raises(UnsupportedImage, match="photo"):
        plain.handle(task(image=b"text", image_field="photo"))
    with pytest.raises(BrokenImage):
        plain.handle(task(image=encode_png(photo(64, 64))[:500]))


def test_a_noise_level_above_the_models_is_refused(plain: Upscaler) -> None:
    with pytest.raises(InvalidField, match="noise_level: must be at most 350"):
        plain.handle(task(noise_level=351))


def test_short_memory_is_tried_once_more_in_smaller_windows(tiny_folder: Path) -> None:
    network = ShortOfMemory(torch.OutOfMemoryError("CUDA out of memory"), failures=1)
    worker = Upscaler(config(tiny_folder), CPU, network)
    result = worker.handle(task())
    assert network.windows == [WindowSizes(160, 96), WindowSizes(80, 48)]
    assert result.windows == (12, 35)
    assert worker.state()["out_of_memory_total"] == 1


def test_memory_that_stays_short_is_said_and_the_next_request_works(tiny_folder: Path) -> None:
    worker = Upscaler(config(tiny_folder), CPU, ShortOfMemory(torch.OutOfMemoryError("CUDA out of memory"), failures=2))
    with pytest.raises(OutOfGpuMemory):
        worker.handle(task())
    assert worker.handle(task()).width_px == 1024


def test_a_failing_gpu_ends_the_worker(tiny_folder: Path) -> None:
    network = ShortOfMemory(RuntimeError("CUDA error: an illegal memory access was encountered"), failures=9)
    with pytest.raises(WorkerBroken):
        Upscaler(config(tiny_folder), CPU, network).handle(task())
    assert len(network.windows) == 1


def test_any_other_error_is_not_taken_for_short_memory(tiny_folder: Path) -> None:
    network = ShortOfMemory(RuntimeError("shape mismatch"), failures=9)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        Upscaler(config(tiny_folder), CPU, network).handle(task())
    assert len(network.windows) == 1


def test_a_cancelled_task_stops_at_the_next_run_of_a_network(upscaler: Upscaler) -> None:
    whole = Desk()
    upscaler.handle(task(whole, steps=3))
    assert whole.checks >= 3 * 5 + 10
    for leave_after in (0, 4, whole.checks - 1):
        desk = Desk(leave_after)
        with pytest.raises(Cancelled):
            upscaler.handle(task(desk, steps=3))
        assert desk.checks == leave_after + 1
    # and the device is free again
    assert upscaler.handle(task()).width_px == 1024


def test_a_task_that_waits_for_the_device_can_be_cancelled(tiny_folder: Path) -> None:
    worker = Upscaler(config(tiny_folder), CPU, enlarging)
    with worker._device_lock, pytest.raises(Cancelled):
        worker.handle(task(Desk(leave_after=1)))


def test_the_state_says_whether_weights_are_here(tiny_folder: Path, tmp_path: Path) -> None:
    worker = Upscaler(config(tiny_folder), CPU, enlarging)
    assert {key: worker.state()[key] for key in ("loaded", "weights_here", "images_total", "device")} == {
        "loaded": [],
        "weights_here": True,
        "images_total": 0,
        "device": "cpu",
    }
    for count in itertools.islice(itertools.count(1), 2):
        worker.handle(task())
        assert (worker.state()["loaded"], worker.state()["images_total"]) == ([MODEL], count)
    assert Upscaler(config(tmp_path), CPU).state()["weights_here"] is False
