"""Which bases stay loaded, and how they are loaded."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_base import build_tiny_base

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.resident_bases import ResidentBases
from enlight.servicekit.errors import CorruptModel, WeightsUnavailable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    """Three names of the same base."""
    base = build_tiny_base(tmp_path_factory.mktemp("base"))
    return {name: replace(base, name=f"tests/{name}") for name in "abc"}


class Loads:
    """Counts loads."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
        self.count += 1
        return StableDiffusion.load(folder, device=device, weights_dtype=weights_dtype)


def test_the_least_recently_used_base_makes_room(bases: dict[str, Base]) -> None:
    # Given room for two bases
    loads = Loads()
    resident = ResidentBases(CPU, 2, load=loads)
    first = resident.get(bases["a"])
    gone = weakref.ref(resident.get(bases["b"]).pipeline)
    assert resident.get(bases["a"]) is first
    # When a third comes
    resident.get(bases["c"])
    # Then the one that was used longest ago is gone, memory and all
    gc.collect()
    assert gone() is None
    assert resident.names == ["tests/a", "tests/c"]
    assert loads.count == 3
    resident.keep_only_newest()
    assert resident.names == ["tests/c"]


def test_a_base_is_fp32_on_a_cpu_and_knows_its_scheduler(bases: dict[str, Base]) -> None:
    resident = ResidentBases(CPU, 1).get(bases["a"])
    assert resident.pipeline.weights_dtype == torch.float32
    assert resident.scheduler == "DDIMScheduler"
    assert resident.base is bases["a"]


def test_a_base_that_cannot_be_loaded_leaves_the_others(bases: dict[str, Base], tmp_path: Path) -> None:
    resident = ResidentBases(CPU, 2)
    kept = resident.get(bases["a"])
    with pytest.raises(WeightsUnavailable):
        resident.get(replace(bases["b"], folder=tmp_path))
    assert resident.get(bases["a"]) is kept


def test_a_base_with_an_unknown_scheduler_is_corrupt(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path)
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "OfTomorrow"}))
    with pytest.raises(CorruptModel, match="OfTomorrow"):
        ResidentBases(CPU, 1).get(base)
