"""Networks from files: the right ones, loaded once, and nothing that runs code."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest
import realesrgan_stand_ins as stand_ins
import torch
from torch import Tensor

from enlight.realesrgan import networks as networks_module
from enlight.realesrgan.models import MODELS
from enlight.realesrgan.networks import Networks, read_state_dict
from enlight.realesrgan.pure.staged_networks import StagedNetwork, interpolated
from enlight.servicekit.errors import CorruptModel, WeightsUnavailable
from enlight.servicekit.weight_files import WeightFolder

CPU = torch.device("cpu")
GENERAL = MODELS["realesr-general-x4v3"]
PHOTO = torch.rand((1, 3, 12, 14), generator=torch.Generator().manual_seed(0))


def networks(folder: Path, sums: dict[str, str], resident: int = 4) -> Networks:
    return Networks(
        WeightFolder(folder, setting="REALESRGAN_WEIGHTS_FOLDER", sha256=sums), device=CPU, resident=resident
    )


def get(loaded: Networks, name: str, strength: float | None = None) -> StagedNetwork:
    return loaded.get(MODELS[name], denoise_strength=strength, dtype=torch.float32)


def run(network: StagedNetwork) -> Tensor:
    with torch.inference_mode():
        return network(PHOTO, strip_px=10**6, check=lambda: None)


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0, None])
def test_denoise_strength_interpolates_the_weights_of_the_twins(tmp_path: Path, strength: float | None) -> None:
    sums = stand_ins.weights_folder(tmp_path)
    strong, weak = stand_ins.compact(seed=4), stand_ins.compact(seed=5)
    share = 0.5 if strength is None else strength
    expected = stand_ins.compact(seed=6)
    expected.load_state_dict(
        {name: share * value + (1 - share) * weak.state_dict()[name] for name, value in strong.state_dict().items()}
    )
    with torch.inference_mode():
        assert (run(get(networks(tmp_path, sums), GENERAL.name, strength)) - expected(PHOTO)).abs().max() < 1e-6


def test_full_strength_needs_no_twin_and_less_names_it(tmp_path: Path) -> None:
    sums = stand_ins.weights_folder(tmp_path)
    (tmp_path / "realesr-general-wdn-x4v3.pth").unlink()
    get(networks(tmp_path, sums), GENERAL.name, 1.0)
    with pytest.raises(WeightsUnavailable, match=r"realesr-general-wdn-x4v3\.pth"):
        get(networks(tmp_path, sums), GENERAL.name, 0.9)


def test_twins_of_different_shape_are_refused(tmp_path: Path) -> None:
    sums = stand_ins.weights_folder(tmp_path)
    name = "realesr-general-wdn-x4v3.pth"
    sums[name] = stand_ins.write(tmp_path, name, stand_ins.compact(convolutions=3))
    with pytest.raises(CorruptModel, match="are not twins"):
        get(networks(tmp_path, sums), GENERAL.name, 0.5)
    with pytest.raises(ValueError, match="not of one architecture"):
        interpolated({"a": PHOTO}, {"b": PHOTO}, 0.5)


def test_a_missing_file_is_named_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as raised:
        get(networks(tmp_path, {}), "RealESRNet_x4plus")
    assert "RealESRNet_x4plus.pth" in raised.value.message
    assert "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.1/" in raised.value.message
    with pytest.raises(WeightsUnavailable, match=r"RealESRGAN_x4plus\.safetensors .* run dev-scripts/fetch-weights"):
        get(networks(tmp_path, {}), "RealESRGAN_x4plus")


def test_upstreams_own_file_is_taken_where_the_converted_one_is_missing(tmp_path: Path) -> None:
    network = stand_ins.rrdbnet(seed=8)
    sums = {"RealESRGAN_x4plus.pth": stand_ins.write(tmp_path, "RealESRGAN_x4plus.pth", network)}
    with torch.inference_mode():
        assert (run(get(networks(tmp_path, sums), "RealESRGAN_x4plus")) - network(PHOTO)).abs().max() < 1e-5


def test_a_file_with_another_sum_is_refused(tmp_path: Path) -> None:
    stand_ins.weights_folder(tmp_path)
    with pytest.raises(CorruptModel, match="are not the published ones"):
        get(networks(tmp_path, {}), "RealESRGAN_x4plus")


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_that_would_run_code_runs_none(tmp_path: Path, how: str) -> None:
    canary, file = tmp_path / "canary", tmp_path / "hostile.pth"
    if how == "pickle":
        file.write_bytes(pickle.dumps(Canary(canary)))
    else:
        torch.save({"params": Canary(canary)}, file)
    with pytest.raises(CorruptModel, match=r"hostile\.pth cannot be read"):
        read_state_dict(file)
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\x08\0\0\0\0\0\0\0{}"])
def test_a_broken_file_is_a_corrupt_model(tmp_path: Path, content: bytes) -> None:
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptModel):
            read_state_dict(tmp_path / name)


def test_a_network_of_another_scale_or_kind_is_refused(tmp_path: Path) -> None:
    name = "RealESRGAN_x2plus.pth"
    sums = {name: stand_ins.write(tmp_path, name, stand_ins.rrdbnet(scale=4))}
    with pytest.raises(CorruptModel, match="not of the network that this name stands for"):
        get(networks(tmp_path, sums), "RealESRGAN_x2plus")
    torch.save({"params": {"some.weight": torch.zeros(3)}}, tmp_path / name)
    with pytest.raises(CorruptModel):
        get(networks(tmp_path, {name: stand_ins.write(tmp_path, name, torch.nn.Linear(2, 2))}), "RealESRGAN_x2plus")


def test_a_network_is_loaded_once_whoever_asks_and_the_oldest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = networks(tmp_path, stand_ins.weights_folder(tmp_path), resident=2)
    reads: list[str] = []

    def counted(path: Path) -> dict[str, Tensor]:
        reads.append(path.name)
        return read_state_dict(path)

    monkeypatch.setattr(networks_module, "read_state_dict", counted)
    threads = [threading.Thread(target=get, args=(loaded, "RealESRGAN_x4plus")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == ["RealESRGAN_x4plus.safetensors"]
    get(loaded, "RealESRGAN_x4plus_anime_6B")
    get(loaded, "RealESRGAN_x4plus")
    get(loaded, "RealESRGAN_x2plus")
    assert loaded.loaded == ["RealESRGAN_x2plus", "RealESRGAN_x4plus"]
    assert len(reads) == 3
