"""What runs a network on a CPU: MNN where it says the same as onnxruntime, onnxruntime everywhere else."""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from bgrem_samples import stand_in_settings
from bgrem_stand_ins import stand_in

from enlight.bgrem.network_trial import TOLERANCE_LEVELS, check_same, trial_picture
from enlight.bgrem.networks import Networks
from enlight.bgrem.onnxruntime_network import OnnxruntimeNetwork
from enlight.bgrem.requests import ModelName
from enlight.bgrem.settings import Settings
from enlight.bgrem.weights import MODELS

U2NETP = MODELS["u2netp"]
PICTURE = trial_picture(U2NETP.input_px)


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what is temporary goes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def networks_of(settings: Settings, *, threads: int = 2) -> Networks:
    return Networks(settings.worker_config(), threads=threads)


def settings_for(data: bytes, folder: Path) -> Settings:
    """Settings with this file as u2netp."""
    (folder / "u2netp.onnx").write_bytes(data)
    return Settings(
        weights_folder=folder, weights_sha256={"u2netp.onnx": hashlib.sha256(data).hexdigest()}, device="cpu"
    )


def in_onnxruntime(data: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (output,) = session.run(["1959"], {"input.1": PICTURE})
    return np.asarray(output[0])


def test_every_network_runs_in_mnn_and_leaves_no_file(tmp_path: Path, temporary_files: Path) -> None:
    networks = networks_of(stand_in_settings(tmp_path / "weights"))
    for name in MODELS:
        networks.get(name)
    assert networks.engines == dict.fromkeys(MODELS, "mnn")
    assert not list(temporary_files.iterdir())


def test_the_settings_can_name_onnxruntime(tmp_path: Path) -> None:
    networks = networks_of(stand_in_settings(tmp_path, cpu_engine="onnxruntime"))
    networks.get("u2netp")
    assert networks.engines == {"u2netp": "onnxruntime"}


def test_on_a_gpu_it_is_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxruntimeNetwork, "on_gpu", True)
    networks = networks_of(stand_in_settings(tmp_path))
    assert networks.get("u2netp", threads=1) is networks.get("u2netp")
    assert networks.engines == {"u2netp": "onnxruntime"}


def test_a_gpu_that_onnxruntime_cannot_use_is_left_alone_and_an_error_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the driver is there, and a library of CUDA is not."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        networks = networks_of(stand_in_settings(tmp_path, device="auto"))
    networks.get("u2netp")
    assert networks.providers == ["CPUExecutionProvider"]
    assert networks.engines == {"u2netp": "mnn"}
    assert "the networks run on the CPU" in caplog.text
    named = pytest.raises(RuntimeError, match="BGREM_DEVICE is cuda")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), named:
        networks_of(stand_in_settings(tmp_path, device="cuda"))


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        pytest.param("Hardmax", r"MNN cannot convert the file: .*Hardmax", id="unknown to MNN"),
        pytest.param("Shrink", r"its prediction is wrong by \d", id="computed otherwise by MNN"),
    ],
)
def test_what_mnn_cannot_do_is_left_to_onnxruntime(
    tmp_path: Path, temporary_files: Path, caplog: pytest.LogCaptureFixture, activation: str, reason: str
) -> None:
    data = stand_in(U2NETP, activation=activation)
    networks = networks_of(settings_for(data, tmp_path))
    network = networks.get("u2netp")
    assert networks.engines == {"u2netp": "onnxruntime"}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match("u2netp runs in onnxruntime, .*: " + reason, warning)
    np.testing.assert_array_equal(network.predict(PICTURE), in_onnxruntime(data))
    assert not list(temporary_files.iterdir())


def test_without_mnn_it_is_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "MNN", None)
    networks = networks_of(stand_in_settings(tmp_path))
    networks.get("u2netp")
    assert networks.engines == {"u2netp": "onnxruntime"}
    assert "u2netp runs in onnxruntime" in caplog.text


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_pictures_beside_each_other_share_a_network_in_mnn_and_have_a_narrow_one_in_onnxruntime(
    tmp_path: Path, engine: str
) -> None:
    networks = networks_of(stand_in_settings(tmp_path, cpu_engine=engine), threads=2)
    beside, alone = networks.get("u2netp", threads=1), networks.get("u2netp", threads=2)
    assert (beside is alone) == (engine == "auto")
    assert networks.get("u2netp", threads=1) is beside
    assert networks.get("u2netp") is alone


def test_pictures_in_mnn_do_not_get_into_each_other_s_way(tmp_path: Path) -> None:
    networks = networks_of(stand_in_settings(tmp_path))
    names: list[ModelName] = ["u2netp", "silueta"]
    pictures = np.random.default_rng(0).normal(size=(8, 1, 3, 320, 320)).astype(np.float32)
    alone = [networks.get(name).predict(picture) for name in names for picture in pictures]

    def predict_all(first: int) -> None:
        for step in range(64):
            number = (first + step) % len(alone)
            name, picture = names[number // len(pictures)], pictures[number % len(pictures)]
            np.testing.assert_array_equal(networks.get(name).predict(picture), alone[number])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(predict_all, range(0, 16, 4)))


def test_the_converter_is_called_past_mnn_s_own_command(tmp_path: Path) -> None:
    """Which installs a package and reports to its makers what was converted."""
    (tmp_path / "network.onnx").write_bytes(stand_in(U2NETP))
    code = """
import sys
from enlight.bgrem.onnx_to_mnn import main
main("network.onnx", "network.mnn")
talkative = [name for name in sys.modules if name.split(".")[0] in ("MNN", "aliyun", "urllib", "requests", "socket")]
assert not talkative, talkative
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)
    assert (tmp_path / "network.mnn").is_file()


def test_a_trial_has_something_to_see_and_is_always_the_same() -> None:
    np.testing.assert_array_equal(trial_picture(320), PICTURE)
    assert PICTURE.shape == (1, 3, 320, 320)
    assert PICTURE.dtype == np.float32
    assert (PICTURE.std(axis=(2, 3)) > 0.5).all()


def test_a_trial_allows_half_a_level_and_nothing_that_is_no_number() -> None:
    expected = in_onnxruntime(stand_in(U2NETP))
    level = np.ptp(expected) / np.float32(255)
    found = expected.copy()
    found[0, 7, 9] += 0.9 * TOLERANCE_LEVELS * level
    check_same(found, expected)
    found[0, 7, 9] += 0.2 * TOLERANCE_LEVELS * level
    with pytest.raises(ArithmeticError, match=r"wrong by 0\.55 levels"):
        check_same(found, expected)
    found[0, 7, 9] = np.nan
    with pytest.raises(ArithmeticError):
        check_same(found, expected)
    flat = np.full_like(expected, 0.3)
    check_same(flat, flat)
    with pytest.raises(ArithmeticError):
        check_same(np.full_like(expected, 0.31), flat)
