"""Which tier a model comes from, and what is kept where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from published_models import manifest_of, write_full
from tiny_base import build_tiny_base

from enlight.dreambooth_api.fine_tune import FineTune, read_fine_tune
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases
from enlight.dreambooth_api.weight_tiers import WeightTiers
from enlight.servicekit.errors import CorruptModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def models(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, FineTune]:
    folder = tmp_path_factory.mktemp("models")
    return {
        f"{name}@1": read_fine_tune(
            write_full(base, folder / name, seed=seed), manifest_of(base, name, "full"), device=CPU
        )
        for seed, name in enumerate("abc")
    }


@pytest.fixture
def resident(base: Base) -> ResidentBase:
    return ResidentBases(CPU, 1).get(base)


class Reads:
    """Counts what has to be read from the disk."""

    def __init__(self, models: dict[str, FineTune]) -> None:
        self._models = models
        self.versions: list[str] = []

    def switch(self, tiers: WeightTiers, resident: ResidentBase, version: str) -> str | None:
        def read() -> FineTune:
            self.versions.append(version)
            return self._models[version]

        return tiers.switch(resident.buffers, version, read)


def test_a_model_is_read_once_and_found_again(resident: ResidentBase, models: dict[str, FineTune]) -> None:
    # Given room for two models in host memory
    size_bytes = models["a@1"].size_bytes
    tiers = WeightTiers(CPU, gpu_cache_bytes=10 * size_bytes, host_cache_bytes=2 * size_bytes)
    reads = Reads(models)
    # When models take turns, then each is found where it is
    history = ["a@1", "a@1", "b@1", "a@1", "c@1", "b@1", "a@1"]
    found = [reads.switch(tiers, resident, version) for version in history]
    assert found == [None, "resident", None, "host", None, None, None]
    assert reads.versions == ["a@1", "b@1", "c@1", "b@1", "a@1"]
    # And memory stays within the quota; a CPU has no tier above it
    assert tiers.host.used_bytes == 2 * size_bytes
    assert tiers.gpu.used_bytes == 0
    assert tiers.holds("a@1")
    assert not tiers.holds("c@1")


def test_without_quotas_everything_is_read_each_time(resident: ResidentBase, models: dict[str, FineTune]) -> None:
    tiers = WeightTiers(CPU, gpu_cache_bytes=0, host_cache_bytes=0)
    reads = Reads(models)
    assert [reads.switch(tiers, resident, version) for version in ("a@1", "b@1", "a@1")] == [None] * 3
    assert tiers.host.used_bytes == 0


def test_a_model_that_does_not_fit_is_not_kept(base: Base, resident: ResidentBase, tmp_path: Path) -> None:
    # Given a model of another base
    manifest = manifest_of(base, "x", "full")
    model = read_fine_tune(write_full(base, tmp_path, seed=9), manifest, device=CPU)
    foreign = FineTune(model.version, "tests/other", None, model.replaced, model.low_rank)
    tiers = WeightTiers(CPU, gpu_cache_bytes=0, host_cache_bytes=10**9)
    # When it is switched to
    with pytest.raises(CorruptModel):
        tiers.switch(resident.buffers, "x@1", lambda: foreign)
    # Then it is nowhere
    assert not tiers.holds("x@1")
    assert resident.buffers.resident is None


def test_what_reading_raises_passes_through(resident: ResidentBase) -> None:
    def read() -> FineTune:
        raise CorruptModel("broken")

    tiers = WeightTiers(CPU, gpu_cache_bytes=0, host_cache_bytes=10**9)
    with pytest.raises(CorruptModel, match="broken"):
        tiers.switch(resident.buffers, "a@1", read)
    assert resident.buffers.resident is None
