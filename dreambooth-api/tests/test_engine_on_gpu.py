"""What is different on a GPU: half precision, channels_last, the tiers above host memory, memory that runs out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers_reference
import numpy as np
import pytest
import torch
from gpu_memory import room_bytes
from numpy.typing import NDArray
from PIL import Image
from published_models import manifest_of, write_full, write_lora
from tiny_base import build_tiny_base

from enlight.dreambooth_api.admission import Admitted
from enlight.dreambooth_api.batch_runner import BatchRunner
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.fine_tune import FineTune, read_fine_tune
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.pure.inference import sample, sample_conditioned
from enlight.dreambooth_api.pure.starts import InitImages
from enlight.dreambooth_api.requests import Base, GenerationRequest
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases
from enlight.dreambooth_api.weight_tiers import WeightTiers
from enlight.servicekit.child import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda:0")
PROMPTS = ["a photo of sks dog", "a red toy"]
SEEDS = [1, 2]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def models(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FineTune]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "full": read(base, write_full(base, folder / "full", seed=1), "full"),
        "text": read(base, write_full(base, folder / "text", seed=2, with_text_encoder=True), "text"),
        "lora": read(base, write_lora(base, folder / "lora", seed=3), "lora"),
    }


@pytest.fixture
def resident(base: Base) -> ResidentBase:
    return ResidentBases(GPU, 1).get(base)


def read(base: Base, folder: Path, name: str) -> FineTune:
    return read_fine_tune(folder, manifest_of(base, name, "lora" if name == "lora" else "full"), device=GPU)


def pixels(resident: ResidentBase) -> NDArray[np.uint8]:
    pictures = sample(resident.pipeline, PROMPTS, seeds=SEEDS, steps=4, guidance_scales=3.0, width_px=64, height_px=64)
    return pictures.cpu().numpy()


def weights(resident: ResidentBase) -> list[torch.Tensor]:
    networks = (resident.pipeline.unet, resident.pipeline.text_encoder)
    return [tensor for network in networks for tensor in network.state_dict().values()]


def test_half_precision_pictures_are_those_of_diffusers(base: Base, resident: ResidentBase) -> None:
    # Given diffusers' pipeline in half precision on the same GPU, in its usual order of memory
    pipeline: Any = diffusers_reference.load_pipeline(base.folder)
    pipeline.to(GPU, torch.float16)
    theirs = diffusers_reference.pictures(
        pipeline, PROMPTS, SEEDS, num_inference_steps=4, guidance_scale=3.0, width=64, height=64
    )
    # When both draw from the same seeds, then the pictures differ by rounding only
    difference = np.abs(pixels(resident).astype(int) - theirs.astype(int))
    print(f"fp16 against diffusers: mean {difference.mean():.3f}, largest {difference.max()} levels")
    assert difference.mean() < 3
    assert theirs.std() > 10


@pytest.mark.parametrize("masked", [False, True], ids=["image", "masked"])
def test_half_precision_pictures_from_pictures_are_those_of_diffusers(
    base: Base, resident: ResidentBase, masked: bool
) -> None:
    # Given pictures to begin from, and a mask
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in SEEDS]
    mask = np.zeros((64, 64), np.uint8)
    mask[13:50, 20:41] = 255
    arguments: dict[str, Any] = {"image": [Image.fromarray(image) for image in images], "strength": 0.5}
    pipeline: Any = diffusers_reference.load_pipeline(base.folder)
    pipeline.to(GPU, torch.float16)
    other: Any = diffusers_reference.from_images(pipeline)
    if masked:
        other = diffusers_reference.from_masked_images(pipeline)
        arguments |= {"mask_image": [Image.fromarray(mask)] * 2, "width": 64, "height": 64}
    # When both begin from them
    theirs = diffusers_reference.pictures(other, PROMPTS, SEEDS, num_inference_steps=4, guidance_scale=3.0, **arguments)
    repaint = [torch.from_numpy(mask > 127)] * 2 if masked else None
    init_images = InitImages([torch.from_numpy(image) for image in images], repaint, first_step=2)
    ours = sample(
        resident.pipeline, PROMPTS, seeds=SEEDS, steps=4, guidance_scales=3.0, width_px=64, height_px=64,
        init_images=init_images,
    )  # fmt: skip
    # Then the pictures differ by rounding only
    difference = np.abs(ours.cpu().numpy().astype(int) - theirs.astype(int))
    print(f"fp16 against diffusers: mean {difference.mean():.3f}, largest {difference.max()} levels")
    assert difference.mean() < 3
    assert theirs.std() > 10


def test_weights_for_a_gpu_are_pinned_half_precision_and_channels_last(models: dict[str, FineTune]) -> None:
    for model in models.values():
        for _, tensor in model.tensors():
            assert tensor.is_pinned()
            assert tensor.dtype == torch.float16
    assert models["full"].replaced["unet.conv_in.weight"].is_contiguous(memory_format=torch.channels_last)


def test_switching_on_a_gpu_leaves_no_trace(base: Base, resident: ResidentBase, models: dict[str, FineTune]) -> None:
    # Given what fresh loads hold with each model
    plain = [tensor.clone() for tensor in weights(resident)]
    fresh = {}
    for name, model in models.items():
        other = ResidentBases(GPU, 1).get(base)
        other.buffers.switch_to(model)
        fresh[name] = [tensor.clone() for tensor in weights(other)]
    places = [tensor.data_ptr() for tensor in weights(resident)]
    # When one base goes through all, from the host and from the GPU
    tiers = WeightTiers(GPU, gpu_cache_bytes=10**9, host_cache_bytes=10**9)
    found = []
    for name in ("full", "lora", "text", "full", "lora", "lora"):
        model = models[name]
        found.append(tiers.switch(resident.buffers, model.version, lambda model=model: model))  # type: ignore[misc]
        # Then every weight is equal to the bit, in its place
        assert all(torch.equal(*pair) for pair in zip(weights(resident), fresh[name], strict=True))
    assert found == [None, None, None, "gpu", "gpu", "resident"]
    resident.buffers.restore_base()
    assert all(torch.equal(*pair) for pair in zip(weights(resident), plain, strict=True))
    assert [tensor.data_ptr() for tensor in weights(resident)] == places
    # And what the GPU tier lets go is found in host memory
    tiers.gpu.clear()
    assert tiers.switch(resident.buffers, "full@1", lambda: models["full"]) == "host"


def test_a_model_without_room_on_the_gpu_is_switched_to_from_the_host(
    resident: ResidentBase, models: dict[str, FineTune]
) -> None:
    tiers = WeightTiers(GPU, gpu_cache_bytes=1000, host_cache_bytes=10**9)
    assert tiers.switch(resident.buffers, "full@1", lambda: models["full"]) is None
    assert tiers.switch(resident.buffers, "lora@1", lambda: models["lora"]) is None
    assert tiers.switch(resident.buffers, "full@1", lambda: models["full"]) == "host"
    assert tiers.gpu.used_bytes == 0


class Owner:
    """Keeps the pictures."""

    def __init__(self) -> None:
        self.pictures: dict[Row, NDArray[np.uint8]] = {}

    def wanted(self, rows: list[Row]) -> list[Row]:
        return rows

    def stepped(self, rows: list[Row], step: int, steps: int) -> None:
        pass

    def finished(self, rows: list[Row], pictures: NDArray[np.uint8], batch_images: int) -> None:
        self.pictures |= dict(zip(rows, pictures, strict=True))

    def failed(self, rows: list[Row], error: Exception) -> None:
        raise error


def test_when_memory_really_runs_out_the_batch_is_halved(base: Base) -> None:
    # Given a base on the GPU and a batch that needs more memory than there is
    tiers = WeightTiers(GPU, gpu_cache_bytes=10**9, host_cache_bytes=10**9)
    runner = BatchRunner(GPU, bases=ResidentBases(GPU, 1), tiers=tiers, sampler=sample_conditioned)
    key = BatchKey(base.name, None, 128, 128, 4, guided=True)
    request = GenerationRequest(base.name, "a dog", "", 256, 0, 128, 128, 4, 5.0, "png")
    generation = Generation(Task(1, request), request, arrived_s=0.0)
    generation.admit(Admitted(base, None, key, ExitStack()))
    rows = [Row(generation, image) for image in range(256)]
    whole, halved = Owner(), Owner()
    runner.run(key, rows, whole)
    needed_bytes = torch.cuda.max_memory_reserved(GPU) - torch.cuda.memory_allocated(GPU)
    # When it runs with half of the memory that it took
    with room_bytes(needed_bytes // 2, GPU):
        runner.run(key, rows, halved)
    # Then memory ran out, and all pictures are there all the same
    assert runner.out_of_memory_count > 0
    assert list(halved.pictures) == rows
    difference = np.abs(np.stack(list(halved.pictures.values())).astype(int) - np.stack(list(whole.pictures.values())))
    assert difference.mean() < 3
    # And the next batch has all memory again
    again = Owner()
    runner.run(key, rows[:4], again)
    assert len(again.pictures) == 4
