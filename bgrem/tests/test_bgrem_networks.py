"""Networks in memory: loaded once, from checked files, and nothing but the local five."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bgrem_samples import REAL_WEIGHTS, stand_in_settings
from bgrem_stand_ins import stand_in, upsampler
from rembg.sessions import sessions as rembg_sessions

from enlight.bgrem.networks import Networks
from enlight.bgrem.onnxruntime_network import SESSIONS, plainly_upsampling
from enlight.bgrem.requests import ModelName
from enlight.bgrem.settings import Settings
from enlight.bgrem.weights import MODELS
from enlight.servicekit.errors import CorruptModel, WeightsUnavailable


def networks_of(settings: Settings) -> Networks:
    return Networks(settings.worker_config(), threads=1)


def test_a_network_is_loaded_once_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real = onnxruntime.InferenceSession

    def counted(*args: object, **kwargs: object) -> object:
        loads.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr("rembg.sessions.base.ort.InferenceSession", counted)
    networks = networks_of(stand_in_settings(tmp_path))
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(networks.get("u2netp"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 16
    assert len(set(map(id, got))) == 1
    assert len(loads) == 1
    assert list(networks.engines) == ["u2netp"]


@pytest.mark.parametrize("name", list(MODELS))
def test_missing_weights_are_named_with_their_source_and_found_once_there(tmp_path: Path, name: ModelName) -> None:
    settings = stand_in_settings(tmp_path)
    model = MODELS[name]
    path = tmp_path / model.weights.name
    data = path.read_bytes()
    path.unlink()
    networks = networks_of(settings)
    with pytest.raises(WeightsUnavailable) as caught:
        networks.get(name)
    assert model.weights.name in caught.value.message
    assert "BGREM_WEIGHTS_FOLDER" in caught.value.message
    assert caught.value.details["file"] == model.weights.name
    path.write_bytes(data)
    networks.get(name)


def test_other_bytes_than_the_published_are_refused(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path)
    path = tmp_path / "u2netp.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptModel, match=r"u2netp\.onnx"):
        networks_of(settings).get("u2netp")


def test_without_sums_of_one_s_own_only_the_published_bytes_are_taken(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path, weights_sha256={})
    for name in MODELS:
        with pytest.raises(CorruptModel):
            networks_of(settings).get(name)


@pytest.mark.parametrize(
    "data", [b"", b"not a network", stand_in(MODELS["u2netp"], side_px=64), stand_in(MODELS["u2net_cloth_seg"])]
)
def test_a_file_that_is_not_this_network_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "u2netp.onnx").write_bytes(data)
    settings = Settings(
        weights_folder=tmp_path, weights_sha256={"u2netp.onnx": hashlib.sha256(data).hexdigest()}, device="cpu"
    )
    with pytest.raises(CorruptModel, match="u2netp"):
        networks_of(settings).get("u2netp")


@pytest.mark.parametrize("factor", [2, 4, 32])
def test_upsampling_by_another_name_gives_the_same(tmp_path: Path, factor: int) -> None:
    data = upsampler(MODELS["u2netp"], factor=factor)
    (tmp_path / "u2netp.onnx").write_bytes(data)
    settings = Settings(
        weights_folder=tmp_path, weights_sha256={"u2netp.onnx": hashlib.sha256(data).hexdigest()}, device="cpu"
    )
    values = np.random.default_rng(factor).normal(size=(1, 3, 320, 320)).astype(np.float32)
    as_written = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (expected,) = as_written.run(None, {"input.1": values})
    np.testing.assert_allclose(networks_of(settings).get("u2netp").predict(values), expected[0], atol=1e-5)


@pytest.mark.parametrize("name", ["u2net", "u2netp"])
def test_the_real_networks_are_upsampled_in_their_blocks(name: ModelName) -> None:
    path = REAL_WEIGHTS / MODELS[name].weights.name
    if not path.is_file():
        pytest.skip(f"{path.name} is not here; dev-scripts/fetch-weights brings it")
    with plainly_upsampling(path) as copy:
        network = copy.read_bytes()
    assert len(network) == path.stat().st_size
    assert network.count(b"pytorch_half_pixel") == 0
    assert network.count(b"half_pixel") == path.read_bytes().count(b"pytorch_half_pixel") > 0


@pytest.mark.parametrize("name", ["u2net", "u2netp"])
def test_the_real_weights_are_the_published_ones(name: ModelName) -> None:
    file = MODELS[name].weights
    path = REAL_WEIGHTS / file.name
    if not path.is_file():
        pytest.skip(f"{file.name} is not here; dev-scripts/fetch-weights brings it")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def test_nothing_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> object:
        raise AssertionError(f"something asked the network: {args}")

    monkeypatch.setattr("pooch.retrieve", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "empty"))
    networks = networks_of(stand_in_settings(tmp_path / "weights"))
    for name in MODELS:
        networks.get(name)
    empty = networks_of(Settings(weights_folder=tmp_path / "empty", device="cpu"))
    for name in MODELS:
        with pytest.raises(WeightsUnavailable):
            empty.get(name)


def test_only_local_sessions_without_cost_or_credentials_can_be_built() -> None:
    assert list(SESSIONS) == list(MODELS)
    for name, session in SESSIONS.items():
        assert rembg_sessions[name] is session
        assert session.is_local()
        assert not session.requires_credentials()
        assert not session.has_usage_cost()
    assert any(not session.is_local() for session in rembg_sessions.values()), "rembg has others"


def test_a_gpu_that_is_not_there_is_an_error_when_it_is_named(tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    assert networks_of(Settings(weights_folder=tmp_path, device="auto")).providers == ["CPUExecutionProvider"]
    with pytest.raises(RuntimeError, match="BGREM_DEVICE"):
        networks_of(Settings(weights_folder=tmp_path, device="cuda:1"))


def test_a_gpu_is_taken_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr("enlight.bgrem.onnxruntime_network.try_out", lambda provider: None)
    for device, number in (("auto", "0"), ("cuda", "0"), ("cuda:1", "1")):
        networks = networks_of(Settings(weights_folder=tmp_path, device=device))
        assert networks.providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        assert networks._providers[0][1]["device_id"] == number
    assert networks_of(Settings(weights_folder=tmp_path, device="cpu")).providers == ["CPUExecutionProvider"]
