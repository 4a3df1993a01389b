"""A request from file to file, with stand-in networks: what kinds of pictures go in and come out."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import realesrgan_stand_ins as stand_ins
import torch
from realesrgan_pictures import photo, png, read
from realesrgan_weights import real_weights
from torch import Tensor

from enlight.realesrgan.models import FACE_DETECTOR
from enlight.realesrgan.networks import Networks
from enlight.realesrgan.pure.staged_networks import StagedCompact
from enlight.realesrgan.requests import UpscaleRequest, UpscaleResult
from enlight.realesrgan.upscaler import Upscaler
from enlight.servicekit.errors import BrokenImage, Cancelled, OutOfGpuMemory, UnsupportedImage, WeightsUnavailable
from enlight.servicekit.measurements import unmeasured
from enlight.servicekit.task_pool import RunningTask
from enlight.servicekit.weight_files import WeightFolder

CPU = torch.device("cpu")


@dataclass
class Asked(RunningTask):
    """A task whose client leaves after some checks."""

    request: UpscaleRequest
    patience: int = 10**9
    checks: int = field(default=0)

    @property
    def payload(self) -> object:
        return self.request

    def check(self) -> None:
        self.checks += 1
        if self.checks > self.patience:
            raise Cancelled

    def stage(self, name: str) -> AbstractContextManager[object]:
        return unmeasured(name)


@pytest.fixture
def upscaler(tmp_path: Path) -> Upscaler:
    return make_upscaler(tmp_path)


def make_upscaler(folder: Path, memory_bytes: int = 0) -> Upscaler:
    weights = WeightFolder(folder, setting="REALESRGAN_WEIGHTS_FOLDER", sha256=stand_ins.weights_folder(folder))
    return Upscaler(Networks(weights, device=CPU, resident=4), device=CPU, memory_bytes=memory_bytes)


def asked(data: bytes, **changes: object) -> UpscaleRequest:
    fields: dict[str, object] = {
        "data": data,
        "field": "input_string",
        "model_name": "RealESRGAN_x4plus",
        "out_resolution_px": 1024,
        "face_enhance": False,
        "denoise_strength": None,
        **changes,
    }
    return UpscaleRequest(**fields)  # type: ignore[arg-type]


def upscale(upscaler: Upscaler, data: bytes, **changes: object) -> UpscaleResult:
    return upscaler.handle(Asked(asked(data, **changes)))


@pytest.mark.parametrize("size", [(256, 256), (192, 256), (100, 37), (1, 1), (3, 500), (500, 3), (257, 131)])
def test_a_picture_keeps_its_aspect_and_its_looks(upscaler: Upscaler, size: tuple[int, int]) -> None:
    given = photo(*size)
    result = upscale(upscaler, png(given))
    pixels = read(result.data)
    factor = 1024 / max(size)
    height, width = (max(1, round(side * factor)) for side in size)
    assert pixels.shape == (height, width, 3)
    assert (result.width_px, result.height_px) == (width, height)
    back = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(back - given).mean() < 12, "the stand-in adds a little to an enlargement"


@pytest.mark.parametrize(("side", "passes"), [(256, 1), (255, 2), (64, 2), (63, 3), (1024, 1), (1500, 1)])
def test_as_many_passes_run_as_are_needed(upscaler: Upscaler, side: int, passes: int) -> None:
    result = upscale(upscaler, png(photo(side // 8, side)))
    assert result.passes == passes
    assert read(result.data).shape[1] == 1024


def test_a_network_that_doubles_takes_more_passes(upscaler: Upscaler) -> None:
    result = upscale(upscaler, png(photo(33, 129)), model_name="RealESRGAN_x2plus")
    assert result.passes == 3
    assert read(result.data).shape == (262, 1024, 3)


def test_sixteen_bits_stay_sixteen(upscaler: Upscaler) -> None:
    ramp = np.linspace(20_000, 21_000, 256)  # less than four levels of 255
    given = np.repeat(np.repeat(ramp[None, :, None], 64, axis=0), 3, axis=2).astype(np.uint16)
    given[..., 1] += 5_000
    pixels = read(upscale(upscaler, png(given)).data)
    assert pixels.dtype == np.uint16
    assert pixels.shape == (256, 1024, 3)
    assert len(np.unique(pixels[100, :, 0])) > 100
    assert abs(int(pixels[..., 1].mean()) - int(given[..., 1].mean())) < 2_000


def test_transparency_is_enlarged_with_the_picture(upscaler: Upscaler) -> None:
    given = np.dstack([photo(128, 128), np.zeros((128, 128), np.uint8)])
    cv2.circle(alpha := given[..., 3].copy(), (64, 64), 40, 255, -1)
    given[..., 3] = alpha
    given[alpha == 0, :3] = (0, 255, 0)  # must not be seen
    pixels = read(upscale(upscaler, png(given)).data)
    assert pixels.shape == (1024, 1024, 4)
    expected = cv2.resize(alpha, (1024, 1024), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(pixels[..., 3].astype(int) - expected).mean() < 12
    edge = (pixels[..., 3] > 20) & (pixels[..., 3] < 235)
    assert edge.any()
    green = (pixels[..., 1].astype(int) - pixels[..., 0])[edge]
    assert green.max() < 150, "the hidden green does not bleed into the edge"


@pytest.mark.parametrize("value", [0, 255, 77])
def test_even_transparency_stays_even_and_costs_no_pass(upscaler: Upscaler, value: int) -> None:
    given = np.dstack([photo(64, 64), np.full((64, 64), value, np.uint8)])
    task = Asked(asked(png(given)))
    pixels = read(upscaler.handle(task).data)
    assert (pixels[..., 3] == value).all()
    opaque = Asked(asked(png(photo(64, 64))))
    upscaler.handle(opaque)
    assert task.checks == opaque.checks


def test_sixteen_bit_transparency_is_kept(upscaler: Upscaler) -> None:
    given = np.full((64, 64, 4), 30_000, np.uint16)
    given[:, :32, 3] = 60_000
    pixels = read(upscale(upscaler, png(given)).data)
    assert pixels.dtype == np.uint16
    assert pixels.shape == (1024, 1024, 4)
    assert abs(int(pixels[:, :300, 3].mean()) - 60_000) < 3_000


def test_grey_stays_grey(upscaler: Upscaler) -> None:
    pixels = read(upscale(upscaler, png(cv2.cvtColor(photo(64, 80), cv2.COLOR_RGB2GRAY).astype(np.uint8))).data)
    assert pixels.shape == (819, 1024, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize(("image_format", "start"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("with_alpha", [True, False])
def test_every_format_takes_every_kind(
    upscaler: Upscaler, image_format: str, start: bytes, bits: int, with_alpha: bool
) -> None:
    given = np.full((16, 16, 4), 200 if bits == 8 else 51_400, np.uint8 if bits == 8 else np.uint16)
    given[..., 3] = 0
    result = upscale(upscaler, png(given if with_alpha else given[..., :3].copy()), image_format=image_format)
    assert result.data.startswith(start)
    pixels = read(result.data)
    has_alpha = with_alpha and image_format != "jpeg"
    assert pixels.shape == (1024, 1024, 4 if has_alpha else 3)
    if with_alpha and image_format == "jpeg":
        assert pixels.min() > 250, "laid on white"


def test_quality_is_what_was_asked_for(upscaler: Upscaler) -> None:
    data = png(photo(64, 64))
    sizes = [
        len(upscale(upscaler, data, image_format=name, quality=quality).data)
        for name in ("jpeg", "webp")
        for quality in (20, None)
    ]
    assert sizes[0] < sizes[1] / 2
    assert sizes[2] < sizes[3] / 2


def test_tiles_and_passes_give_what_one_tile_gives(tmp_path: Path) -> None:
    data = png(photo(200, 233))
    whole = read(upscale(make_upscaler(tmp_path), data, model_name="RealESRGAN_x4plus").data)
    in_tiles = read(upscale(make_upscaler(tmp_path, memory_bytes=1), data, model_name="RealESRGAN_x4plus").data)
    assert np.abs(whole.astype(int) - in_tiles).max() <= 1


class Small(StagedCompact):
    """A network on a device with little memory."""

    most_px = 12_000
    tried: list[int]

    def __call__(self, picture: Tensor, *, strip_px: int, check: object) -> Tensor:
        self.tried.append(picture.shape[2] * picture.shape[3])
        if self.tried[-1] > self.most_px:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(picture, strip_px=strip_px, check=check)  # type: ignore[arg-type]


def test_short_memory_halves_the_tiles_and_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(photo(200, 200))
    expected = read(upscale(make_upscaler(tmp_path), data).data)
    # 40 MB: 200 * 200 pixels of 320 values are more than what is tried first
    upscaler = make_upscaler(tmp_path, memory_bytes=4 * 320 * 40_000 * 4)
    small = Small(stand_ins.compact(seed=1), scale=4, convolutions=4)
    small.tried = []
    monkeypatch.setattr(Networks, "get", lambda *_, **__: small)
    assert np.abs(read(upscale(upscaler, data).data).astype(int) - expected).max() <= 1
    failures = [count for count in small.tried if count > small.most_px]
    assert len(failures) > 1
    assert failures == sorted(failures, reverse=True)
    assert upscaler.counts["out_of_memory_total"] >= len(failures)
    small.tried.clear()
    upscale(upscaler, data)
    assert max(small.tried) <= small.most_px


def test_memory_that_never_suffices_is_an_error_with_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(stand_ins.compact(seed=1), scale=4, convolutions=4)
    small.tried, small.most_px = [], 0
    monkeypatch.setattr(Networks, "get", lambda *_, **__: small)
    with pytest.raises(OutOfGpuMemory):
        upscale(make_upscaler(tmp_path), png(photo(20, 20)))


def test_a_client_that_leaves_frees_the_network_within_a_tile(tmp_path: Path) -> None:
    upscaler = make_upscaler(tmp_path, memory_bytes=1)
    data = png(photo(32, 250))
    complete = Asked(asked(data, model_name="RealESRGAN_x4plus_anime_6B"))
    upscaler.handle(complete)
    assert complete.checks > 10
    for patience in (1, 5, complete.checks - 1):
        leaver = Asked(asked(data, model_name="RealESRGAN_x4plus_anime_6B"), patience=patience)
        with pytest.raises(Cancelled):
            upscaler.handle(leaver)
        assert leaver.checks == patience + 1
    upscale(upscaler, png(photo(8, 8)))


def test_a_request_that_waits_for_the_network_may_leave(tmp_path: Path) -> None:
    upscaler = make_upscaler(tmp_path)
    entered, leave = threading.Event(), threading.Event()
    first = Asked(asked(png(photo(8, 8))))

    def hold() -> None:
        with upscaler._device_for(first):
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(10)
    with pytest.raises(Cancelled):
        upscaler.handle(Asked(asked(png(photo(8, 8))), patience=3))
    assert holder.is_alive(), "it left while the other was at work"
    leave.set()
    holder.join()


def test_two_requests_decode_and_encode_beside_each_other(tmp_path: Path) -> None:
    upscaler = make_upscaler(tmp_path)
    results: list[UpscaleResult] = []
    threads = [threading.Thread(target=lambda: results.append(upscale(upscaler, png(photo(64, 64))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.data for result in results}) == 1
    assert upscaler.counts["pictures_total"] == 4


def test_pictures_that_are_none_are_the_clients_error(upscaler: Upscaler) -> None:
    with pytest.raises(UnsupportedImage, match="input_string"):
        upscale(upscaler, b"GIF89a")
    with pytest.raises(BrokenImage, match="input_string"):
        upscale(upscaler, png(photo(64, 64))[:-300])


def test_face_enhance_says_which_file_is_missing_before_it_works(tmp_path: Path) -> None:
    upscaler = make_upscaler(tmp_path)
    task = Asked(asked(png(photo(64, 64)), face_enhance=True))
    with pytest.raises(WeightsUnavailable, match=FACE_DETECTOR.name):
        upscaler.handle(task)
    (tmp_path / FACE_DETECTOR.name).write_bytes(real_weights().find(FACE_DETECTOR).read_bytes())
    with pytest.raises(WeightsUnavailable, match=r"GFPGANv1\.4\.pth"):
        upscaler.handle(task)
    assert task.checks <= 2
