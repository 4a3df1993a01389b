from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from training_samples import catalogue_in

from enlight.dreambooth_api.bases import PRESETS_FILE
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.settings import Settings
from enlight.dreambooth_api.training_presets import SEED_ONLY, PresetsFile, find_preset, load_presets
from enlight.servicekit.errors import InternalError, InvalidField

MODELS = Path(__file__).resolve().parents[2] / "models"
PRESETS: dict[str, Any] = {
    "recommended": "quick",
    "presets": {
        "quick": {"description": "A few steps.", "max_training_steps": 7},
        "small": {"description": "A small model.", "kind": "lora", "lora_rank": 4},
    },
}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A base model without a file of presets."""
    base = catalogue_in(tmp_path).bases()["enlight/pocket"]
    base.folder.mkdir(parents=True)
    return base


def write_presets(base: Base, content: object) -> None:
    (base.folder / PRESETS_FILE).write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_presets_of_a_base_are_those_of_its_file_and_the_seed_s(base: Base) -> None:
    write_presets(base, PRESETS)
    known = load_presets(base)
    assert (list(known.presets), known.recommended) == (["quick", "small", "seed"], "quick")
    assert known.presets["small"].said() == {"kind": "lora", "lora_rank": 4}


def test_a_base_without_a_file_has_the_seed_s_defaults_and_recommends_them(base: Base) -> None:
    assert load_presets(base) == SEED_ONLY
    assert find_preset(base, "recommended", field="preset") == find_preset(base, "seed", field="preset")
    name, preset = find_preset(base, "seed", field="preset")
    assert name == "seed"
    assert preset.said() == {
        "max_training_steps": 400,
        "train_batch_size": 1,
        "learning_rate": 2e-6,
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "gradient_accumulation_steps": 1,
        "kind": "full",
        "prior_preservation": False,
        "train_text_encoder": False,
    }
    # What the service trains by default is what the seed's preset says
    as_set = Settings().model_dump(include={"prior_preservation", "train_text_encoder", "training_kind"})
    assert as_set == {"prior_preservation": False, "train_text_encoder": False, "training_kind": "full"}


def test_recommended_is_another_name_of_the_recommended_one(base: Base) -> None:
    write_presets(base, PRESETS)
    assert find_preset(base, "recommended", field="preset") == find_preset(base, "quick", field="preset")
    assert find_preset(base, "recommended", field="preset")[0] == "quick"


def test_an_edit_of_the_file_holds_at_once(base: Base) -> None:
    write_presets(base, PRESETS)
    load_presets(base)
    write_presets(base, PRESETS | {"recommended": "small"})
    assert find_preset(base, "recommended", field="preset")[0] == "small"


@pytest.mark.parametrize("name", ["fast", "", "QUICK", "../quick", "quick\n", "a" * 5000])
def test_an_unknown_preset_is_refused_and_the_known_ones_are_listed(base: Base, name: str) -> None:
    write_presets(base, PRESETS)
    with pytest.raises(InvalidField, match=r"^preset: .*enlight/pocket.*recommended, quick, seed, small$") as refusal:
        find_preset(base, name, field="preset")
    assert len(refusal.value.message) < 300


def _changed(name: str, **values: object) -> dict[str, Any]:
    return {"recommended": name, "presets": {name: {"description": "A change.", **values}}}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", r"The file is not JSON.*line 1"),
        ("", "The file is empty"),
        ("[]", "body"),
        ('{"recommended": "a", "presets": {"a": {"description": "A."}, "a": {"description": "B."}}}', '"a" twice'),
        ({"presets": {}}, "recommended: is required"),
        ({"recommended": "quick"}, "presets: is required"),
        (PRESETS | {"recommended": "fast"}, "recommended must be the name of one of the presets"),
        (PRESETS | {"preset": {}}, "preset: is not a known field"),
        ({"recommended": "a", "presets": {"a": {}}}, r"presets\.a\.description: is required"),
        (_changed("a", description="two\nlines"), r"presets\.a\.description: must be one line"),
        (_changed("a", description=" "), r"presets\.a\.description: must be one line"),
        (_changed("a", description="x" * 201), r"presets\.a\.description"),
        (_changed("a", learning_rte=1e-4), r"presets\.a\.learning_rte: is not a known field"),
        (_changed("a", learning_rate=0), r"presets\.a\.learning_rate: .*greater than 0"),
        (_changed("a", learning_rate="1e-4"), r"presets\.a\.learning_rate"),
        (_changed("a", max_training_steps=100_001), r"presets\.a\.max_training_steps"),
        (_changed("a", train_batch_size=0), r"presets\.a\.train_batch_size"),
        (_changed("a", lr_scheduler="cosign"), r"presets\.a\.lr_scheduler: must be one of"),
        (_changed("a", kind="dora"), r"presets\.a\.kind"),
        (_changed("a", lora_rank=513), r"presets\.a\.lora_rank"),
        (_changed("a", prior_preservation=1), r"presets\.a\.prior_preservation"),
        (_changed("a", num_class_images=0), r"presets\.a\.num_class_images"),
        (_changed("a", model_id="x"), r"presets\.a\.model_id: is not a known field"),
        (_changed("seed"), r"presets\.seed.*a meaning of its own"),
        (_changed("recommended"), r"presets\.recommended.*a meaning of its own"),
        (_changed("Full U-Net"), r"presets\.Full U-Net.*lower-case"),
        (_changed("full\n"), r"presets\.full\n.*lower-case"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_file_and_the_field(
    base: Base, content: object, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_presets(base, content)
    with pytest.raises(InternalError, match=complaint) as broken, caplog.at_level(logging.ERROR):
        find_preset(base, "recommended", field="preset")
    assert broken.value.message.startswith(f"{PRESETS_FILE} of the base model enlight/pocket is broken: ")
    # The operator is told where the file lies, the client is not
    assert str(base.folder) in caplog.text
    assert str(base.folder) not in broken.value.message
    # And the preset that needs no file is still there
    assert find_preset(base, "seed", field="preset")[1] == SEED_ONLY.presets["seed"]


def test_a_file_that_cannot_be_read_is_the_same_error(base: Base) -> None:
    (base.folder / PRESETS_FILE).mkdir()
    with pytest.raises(InternalError, match=f"^{PRESETS_FILE} of the base model enlight/pocket"):
        load_presets(base)


def test_the_pocket_base_s_file_is_valid_and_is_what_a_new_export_leaves_behind() -> None:
    # An export of the weights rewrites every JSON file of the folder in this form
    text = (MODELS / "pocket" / PRESETS_FILE).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    known = PresetsFile.model_validate(json.loads(text))
    assert set(known.presets) == {"full", "lora", "full-prior", "full-text-encoder"}
    assert known.recommended == "full-text-encoder"
