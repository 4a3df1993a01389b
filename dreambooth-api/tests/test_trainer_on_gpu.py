"""What is different about training on a GPU: precisions, layouts, no waiting for values, memory that runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_memory import room_bytes
from tiny_base import build_tiny_base
from tiny_training import RecordingChannel, acting_step, make_config, make_request, write_photos

from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.training import TrainingState, eager_step, run_updates
from enlight.dreambooth_api.requests import Base, TrainerConfig, TrainingOutcome
from enlight.dreambooth_api.trainer import MakeStep, Trainer, make_eager_step
from enlight.dreambooth_api.training_data import prepare_data
from enlight.dreambooth_api.training_setup import Training, set_up_training
from enlight.servicekit.errors import OutOfGpuMemory, WorkerUnavailable
from enlight.servicekit.object_store import open_store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda:0")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


def _config(folder: Path, base: Base, photos: tuple[Path, ...], **changes: Any) -> TrainerConfig:
    of_config = {name: changes.pop(name) for name in ("device", "mixed_precision") if name in changes}
    return make_config(
        folder, base, make_request(photos, **changes), progress_every_s=0.0, **{"device": "cuda:0", **of_config}
    )


def _run(
    config: TrainerConfig, channel: RecordingChannel | None = None, make_step: MakeStep = make_eager_step
) -> TrainingOutcome:
    store = ModelStore(open_store(config.store.bucket_url, timeout_s=5, retry_total_s=10))
    return Trainer(channel or RecordingChannel(), config, store, make_step=make_step).run()


def _losses(config: TrainerConfig) -> list[float]:
    channel = RecordingChannel()
    _run(config, channel)
    return [sent.loss for sent in channel.sent if sent.loss is not None]


def _set_up(base: Base, photos: tuple[Path, ...], dtype: torch.dtype | None, **changes: Any) -> Training:
    request = make_request(photos, max_training_steps=6, gradient_accumulation_steps=2, **changes)
    pipeline = StableDiffusion.load(base.folder, device=GPU, weights_dtype=torch.float32)
    data = prepare_data(
        pipeline,
        request,
        class_image_steps=2,
        autocast_dtype=dtype,
        report=lambda phase, done, of: None,
        check=lambda: None,
    )
    return set_up_training(pipeline, request, data, autocast_dtype=dtype, gradient_checkpointing=False)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(("mixed_precision", "tolerance"), [("no", 5e-3), ("bf16", 0.05), ("fp16", 0.05)])
def test_a_gpu_sees_the_draws_of_a_cpu(
    tmp_path: Path,
    base: Base,
    photos: tuple[Path, ...],
    mixed_precision: str,
    tolerance: float,
    kind: str,
) -> None:
    # Given the losses of a job on the CPU
    changes: dict[str, Any] = {"kind": kind, "prior_preservation": True, "learning_rate": 1e-4}
    expected = _losses(_config(tmp_path / "cpu", base, photos, device="cpu", **changes))

    # When the same job runs on the GPU
    config = _config(tmp_path / "gpu", base, photos, mixed_precision=mixed_precision, **changes)
    losses = _losses(config)

    # Then its losses are the same but for the precision
    assert losses == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_no_update_waits_for_a_value_of_the_gpu(
    base: Base, photos: tuple[Path, ...], dtype: torch.dtype | None, kind: str
) -> None:
    # Given a training whose first updates have warmed up
    training = _set_up(base, photos, dtype, kind=kind, prior_preservation=True)
    step = eager_step(training.objective, max_grad_norm=1.0)
    modes = iter(["default", "default", *["error"] * 4])

    def before_update() -> None:
        torch.cuda.set_sync_debug_mode(next(modes))

    # When the others run where each read of a value is an error, then there is none
    try:
        run_updates(
            training.state,
            training.plan,
            training.objective,
            step,
            before_update=before_update,
            after_update=lambda loss, learning_rate: None,
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert training.state.step == 6
    assert torch.isfinite(training.state.mean_recent_loss())


def test_the_unet_is_laid_out_for_tensor_cores(base: Base, photos: tuple[Path, ...]) -> None:
    training = _set_up(base, photos, torch.bfloat16)
    weight = training.state.parameters["unet.conv_in.weight"]
    assert weight.dtype == torch.float32
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mixed_precision", ["bf16", "fp16"])
def test_a_stopped_job_goes_on(tmp_path: Path, base: Base, photos: tuple[Path, ...], mixed_precision: str) -> None:
    # Given a job that is stopped after its second update
    config = _config(tmp_path, base, photos, mixed_precision=mixed_precision, max_training_steps=5)
    channel = RecordingChannel()

    def stop(state: TrainingState) -> None:  # at an update, not at its message: that comes when the GPU is done with it
        channel.closing = state.step == 1

    with pytest.raises(WorkerUnavailable):
        _run(config, channel, make_step=acting_step(stop))

    # When it is started again, then it goes on with the third and publishes
    outcome = _run(config)
    assert outcome.resumed_from_step == 2
    assert outcome.steps == 5


def test_memory_that_runs_out_says_what_helps_and_the_next_job_runs(
    tmp_path: Path, base: Base, photos: tuple[Path, ...]
) -> None:
    # Given a job that does not fit
    config = _config(tmp_path / "large", base, photos, train_batch_size=64, resolution_px=128)
    with room_bytes(100 << 20, GPU), pytest.raises(OutOfGpuMemory, match="TRAIN_BATCH_SIZE"):
        _run(config)

    # When a smaller one comes, then it runs
    assert _run(_config(tmp_path / "small", base, photos)).steps == 3


def test_the_peak_of_the_memory_is_told(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    outcome = _run(_config(tmp_path, base, photos))
    assert outcome.peak_memory_bytes is not None
    assert 1 << 20 < outcome.peak_memory_bytes < 8 << 30


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize(("mixed_precision", "tolerance"), [("no", 5e-3), ("bf16", 0.05), ("fp16", 0.05)])
def test_a_training_with_samples_goes_as_one_without(
    tmp_path: Path, base: Base, photos: tuple[Path, ...], mixed_precision: str, tolerance: float, kind: str
) -> None:
    # Given the losses of a training, and how much of the GPU stays in use behind an update
    changes: dict[str, Any] = {
        "kind": kind, "mixed_precision": mixed_precision, "learning_rate": 1e-4, "max_training_steps": 6
    }  # fmt: skip
    expected = _losses(_config(tmp_path / "plain", base, photos, **changes))
    in_use: list[tuple[bool, int]] = []

    def note(state: TrainingState) -> None:
        in_use.append((torch.backends.cudnn.benchmark, torch.cuda.memory_allocated(GPU)))

    # When the same training makes pictures of itself
    channel = RecordingChannel()
    config = _config(
        tmp_path / "sampled", base, photos, **changes, sample_prompt="a photo of sks dog", sample_every_steps=2
    )
    _run(config, channel, acting_step(note))

    # Then they are made of what was learnt, by the GPU in the training's precision, and the training is the same
    assert [sample.step for sample in channel.samples] == [2, 4, 6]
    assert len({sample.png for sample in channel.samples}) == 3
    assert channel.remarks == []
    losses = {sent.step: sent.loss for sent in channel.sent if sent.loss is not None}  # told again as a sign of life
    assert list(losses.values()) == pytest.approx(expected, rel=tolerance)
    # And nothing of them stays in the GPU's memory, nor in the way in which algorithms are chosen
    (chosen_by_trying, before_bytes), *_ = in_use[1:]
    assert all(chosen and used_bytes == before_bytes for chosen, used_bytes in in_use[1:])
    assert chosen_by_trying
