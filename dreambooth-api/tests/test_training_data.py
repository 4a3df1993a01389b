from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tiny_base import build_tiny_base
from tiny_training import make_request, write_photos

from enlight.dreambooth_api.photos import load_photo
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.training_data import (
    CLASS_GUIDANCE_SCALE,
    CLASS_SEED_OFFSET,
    PreparedData,
    class_images,
    load_data,
    prepare_data,
    prompts,
    save_data,
)
from enlight.servicekit.errors import BrokenImage, Cancelled

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


@pytest.fixture(scope="module")
def base(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(folder, device=CPU, weights_dtype=torch.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


def _prepare(base: StableDiffusion, request: TrainingRequest, **changes: Any) -> PreparedData:
    arguments: dict[str, Any] = {
        "class_image_steps": 2,
        "autocast_dtype": None,
        "report": lambda phase, done, of: None,
        "check": lambda: None,
        **changes,
    }
    return prepare_data(base, request, **arguments)


def test_photos_are_latent_distributions_scaled_for_the_network(
    base: StableDiffusion, photos: tuple[Path, ...]
) -> None:
    # When three photos are prepared
    data = _prepare(base, make_request(photos))

    # Then they are the VAE's distributions times the latent factor, and the prompt is embedded
    mean, std = base.encode_photos(load_photo(photos[1], 64, field="photo"))
    assert data.latent_mean.shape == (3, 4, 16, 16)
    assert torch.equal(data.latent_mean[1], mean[0] * base.latent_factor)
    assert torch.equal(data.latent_std[1], std[0] * base.latent_factor)
    assert data.photo_count == 3
    assert torch.equal(data.embeddings, base.encode_prompts(["a photo of sks dog"]))


def test_class_images_are_those_of_diffusers(base: StableDiffusion, folder: Path, photos: tuple[Path, ...]) -> None:
    # Given a job that wants five class images, which are made four at a time
    request = make_request(photos, prior_preservation=True, num_class_images=5)

    # When they are made
    made = torch.cat(
        list(
            class_images(
                base,
                request,
                steps=3,
                autocast_dtype=None,
                report=lambda phase, done, of: None,
                check=lambda: None,
            )
        )
    )

    # Then each is what diffusers' pipeline makes of the prompt with its seed
    load: Any = StableDiffusionPipeline.from_pretrained
    pipe = load(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    assert made.shape == (5, 64, 64, 3)
    for index in (0, 4):
        generator = torch.Generator().manual_seed(request.seed + CLASS_SEED_OFFSET + index)
        expected = pipe(
            request.class_prompt,
            num_inference_steps=3,
            guidance_scale=CLASS_GUIDANCE_SCALE,
            generator=generator,
            height=64,
            width=64,
        ).images[0]
        difference = np.abs(made[index].numpy().astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= 1


def test_class_images_come_after_the_photos(base: StableDiffusion, photos: tuple[Path, ...]) -> None:
    request = make_request(photos, prior_preservation=True, num_class_images=5)
    data = _prepare(base, request)
    training_data = data.to_training_data(CPU)
    assert (training_data.photo_count, training_data.class_count) == (3, 5)
    assert training_data.epoch_length == 5
    assert prompts(request) == ["a photo of sks dog", "a photo of dog"]
    assert torch.equal(data.embeddings, base.encode_prompts(prompts(request)))
    # They are pictures of their own, not the photos again
    assert (data.latent_mean[0] - data.latent_mean[3]).abs().mean() > 0.01
    assert (data.latent_mean[3] - data.latent_mean[4]).abs().mean() > 0.01


def test_progress_counts_pictures(base: StableDiffusion, photos: tuple[Path, ...]) -> None:
    told: list[tuple[str, int, int]] = []
    _prepare(
        base,
        make_request(photos, prior_preservation=True, num_class_images=5),
        report=lambda phase, done, of: told.append((phase, done, of)),
    )
    assert told[:3] == [("photos", 1, 3), ("photos", 2, 3), ("photos", 3, 3)]
    assert told[3:] == [
        ("class_images", 2, 5),
        ("class_images", 4, 5),
        ("class_images", 4, 5),
        ("class_images", 5, 5),
    ]


def test_class_images_are_cancelled_within_a_denoising_step(base: StableDiffusion, photos: tuple[Path, ...]) -> None:
    # Given a job that is cancelled at its second denoising step
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == len(photos) + 2:
            raise Cancelled

    # When it is prepared, then it stops there
    with pytest.raises(Cancelled):
        _prepare(base, make_request(photos, prior_preservation=True, num_class_images=5), check=check)
    assert checks == len(photos) + 2


def test_a_broken_photo_is_named(base: StableDiffusion, tmp_path: Path) -> None:
    photos = write_photos(tmp_path, 2)
    photos[1].write_bytes(photos[1].read_bytes()[:100])
    with pytest.raises(BrokenImage, match=r"IMAGE_LIST\[1\]"):
        _prepare(base, make_request(photos))


def _some_data() -> PreparedData:
    return PreparedData(torch.randn(3, 4, 2, 2), torch.rand(3, 4, 2, 2), 2, torch.randn(2, 5, 6))


def test_data_are_kept(tmp_path: Path) -> None:
    data = _some_data()
    save_data(data, tmp_path / "data", "job")
    loaded = load_data(tmp_path / "data", "job")
    assert loaded is not None
    assert loaded.photo_count == 2
    assert torch.equal(loaded.latent_mean, data.latent_mean)
    assert torch.equal(loaded.latent_std, data.latent_std)
    assert torch.equal(loaded.embeddings, data.embeddings)


def test_data_of_another_job_are_removed(tmp_path: Path) -> None:
    save_data(_some_data(), tmp_path / "data", "another job")
    assert load_data(tmp_path / "data", "job") is None
    assert not (tmp_path / "data").exists()


def test_damaged_data_are_removed(tmp_path: Path) -> None:
    save_data(_some_data(), tmp_path / "data", "job")
    path = tmp_path / "data" / "data.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert load_data(tmp_path / "data", "job") is None
    assert not (tmp_path / "data").exists()


def test_no_data_are_no_data(tmp_path: Path) -> None:
    assert load_data(tmp_path / "data", "job") is None
