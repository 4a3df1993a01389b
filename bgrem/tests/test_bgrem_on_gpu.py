"""What is different on a GPU: whose masks, which GPU, memory that runs out. Needs onnxruntime-gpu and real weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import requests
import torch
from answers import assert_error
from bgrem_samples import REAL_WEIGHTS, base64_of, cutouts_of, file_of, photo, pixels_of, running_app, worker_process
from gpu_memory import left_bytes
from waiting import wait_until

from enlight.bgrem.networks import Networks
from enlight.bgrem.pure.network_input import network_input
from enlight.bgrem.requests import CutoutRequest, ModelName
from enlight.bgrem.settings import Settings
from enlight.servicekit.errors import OutOfGpuMemory
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.strips import Strips

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.skipif(CUDA not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"),
    pytest.mark.skipif(not (REAL_WEIGHTS / "u2net.onnx").is_file(), reason="dev-scripts/fetch-weights was not run"),
]
GPU = torch.device("cuda:0")
MIB = 1 << 20
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
GUNICORN_CONFIG = Path(__file__).parents[1] / "gunicorn.conf.py"


def settings(device: str, *, parallel_requests: int = 2) -> Settings:
    return Settings(
        weights_folder=REAL_WEIGHTS, device=device, cpu_engine="onnxruntime", parallel_requests=parallel_requests
    )


def networks_on(device: str) -> Networks:
    return Networks(settings(device).worker_config(), threads=4)


def values(name: str) -> np.ndarray:
    return network_input(np.asarray(photo(name, 400, 300)), 320, Strips(1))


def request_of(name: str, model: ModelName = "u2net") -> CutoutRequest:
    return CutoutRequest(file_of(photo(name, 1024, 768)), "photo", model, only_mask=True)


def levels_apart(found: bytes, expected: bytes) -> np.ndarray:
    levels: np.ndarray = np.abs(pixels_of(found).astype(int) - pixels_of(expected))
    return levels


@pytest.mark.parametrize("model", ["u2net", "u2netp"])
def test_masks_are_those_of_a_cpu(model: ModelName) -> None:
    on_gpu, on_cpu = cutouts_of(settings("cuda")), cutouts_of(settings("cpu"))
    for name in PHOTOS:
        found, expected = (cutouts.cut_out(request_of(name, model)).data for cutouts in (on_gpu, on_cpu))
        levels = levels_apart(found, expected)
        within = (levels <= 1).mean()
        print(f"{model}, {name}: {(levels == 0).mean():.4%} equal, {within:.4%} within 1, largest {levels.max()}")
        assert pixels_of(expected).std() > 20
        assert within >= 0.9999
        assert levels.max() <= 2


@pytest.mark.parametrize(("device", "provider"), [("auto", CUDA), ("cuda", CUDA), ("cuda:0", CUDA), ("cpu", CPU)])
def test_the_settings_say_where_networks_run(device: str, provider: str) -> None:
    networks = networks_on(device)
    before_bytes, _ = torch.cuda.mem_get_info(GPU)
    networks.get("u2net").predict(values("coffee"))
    taken_bytes = before_bytes - torch.cuda.mem_get_info(GPU)[0]
    assert networks.providers[0] == provider
    assert (taken_bytes > 150 * MIB) == (provider == CUDA)  # its weights are 168


def test_a_gpu_that_is_not_there_is_an_error_and_no_other_one_is_taken() -> None:
    with pytest.raises(RuntimeError, match="BGREM_DEVICE is cuda:99"):
        networks_on("cuda:99")


def test_pictures_beside_each_other_are_as_alone() -> None:
    network = networks_on("cuda").get("u2net")
    pictures = [values(name) for name in PHOTOS]
    alone = [network.predict(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda number: network.predict(pictures[number % len(pictures)]), range(64)))
    for number, found in enumerate(beside):
        np.testing.assert_array_equal(found, alone[number % len(alone)])


def test_memory_that_is_short_for_a_picture_costs_that_picture_only() -> None:
    network, picture = networks_on("cuda").get("u2net"), values("coffee")
    with left_bytes(8 * MIB, GPU):
        for _ in range(2):
            with pytest.raises(OutOfGpuMemory):
                network.predict(picture)
    expected = networks_on("cpu").get("u2net").predict(picture)
    assert np.abs(network.predict(picture) - expected).max() < 1 / 255


def test_memory_that_is_short_for_a_network_costs_that_request_only() -> None:
    body = {"input_image": base64_of(photo("coffee", 400, 300)), "model": "u2net"}
    with running_app(settings("cuda")) as app:
        client, worker = app.test_client(), worker_process()
        with left_bytes(8 * MIB, GPU):
            for _ in range(2):
                answer = client.post("/remove", json=body)
                assert_error(answer, 503, "out_of_gpu_memory")
                assert "Retry-After" in answer.headers
        assert client.post("/remove", json=body).status_code == 200
        assert worker_process().pid == worker.pid
        status = app.extensions["enlight"].readiness().details["worker"]
        assert (status["providers"][0], status["engines"]) == (CUDA, {"u2net": "onnxruntime"})


@pytest.mark.parametrize("left_mib", [100, 300, 500])
def test_a_network_that_was_loaded_into_too_little_memory_works_when_there_is_more(left_mib: int) -> None:
    body = {"input_image": base64_of(photo("coffee", 400, 300)), "model": "u2net"}
    with running_app(settings("cuda")) as app:
        client = app.test_client()
        with left_bytes(left_mib * MIB, GPU):
            answer = client.post("/remove", json=body)
            assert answer.status_code in (200, 503), answer.text
            assert "Retry-After" in answer.headers or answer.status_code == 200
        # cuDNN does not always outlive a want of memory; the worker is replaced then.
        assert wait_until(lambda: client.post("/remove", json=body).status_code == 200, 30)


@pytest.mark.parametrize("left_mib", [8, 560, 600])  # too little for CUDA, for cuBLAS or cuDNN, for the network
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_worker_that_starts_while_memory_is_short_is_on_the_gpu_all_the_same(device: str, left_mib: int) -> None:
    body = {"input_image": base64_of(photo("coffee", 400, 300)), "model": "u2net"}
    with ExitStack() as memory, ExitStack() as running:
        memory.enter_context(left_bytes(left_mib * MIB, GPU))
        # One thread for both requests: it is the one that CUDA tells of its want of memory a second time.
        app = running.enter_context(running_app(settings(device, parallel_requests=1)))
        client, worker = app.test_client(), worker_process()
        assert_error(client.post("/remove", json=body), 503, "out_of_gpu_memory")
        memory.close()
        assert client.post("/remove", json=body).status_code == 200
        assert worker_process().pid == worker.pid
        assert app.extensions["enlight"].readiness().details["worker"]["providers"][0] == CUDA


def test_a_deployed_service_says_that_it_is_on_the_gpu(tmp_path: Path) -> None:
    with LocalService(
        "enlight.bgrem.app:create_app()",
        gunicorn_config=GUNICORN_CONFIG,
        env_prefix="BGREM_",
        settings={"WEIGHTS_FOLDER": str(REAL_WEIGHTS), "DEVICE": "auto"},
        log=tmp_path / "log",
    ) as service:
        request = request_of("chelsea")
        answer = requests.post(
            f"{service.url}/v1/cutout?only_mask=true",
            data=request.data,
            headers={"Content-Type": "image/png"},
            timeout=60,
        )
        status = requests.get(f"{service.url}/ready", timeout=10).json()["details"]["worker"]
    assert answer.status_code == 200, answer.text
    assert status["providers"][0] == CUDA
    assert levels_apart(answer.content, cutouts_of(settings("cpu")).cut_out(request).data).max() <= 2
