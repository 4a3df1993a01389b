from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_base import build_tiny_base
from tiny_training import RecordingChannel, acting_step, make_config, make_request, write_photos

from enlight.dreambooth_api.model_store import Manifest, ModelDescription, ModelStore
from enlight.dreambooth_api.pure.training import Objective, StepFunction, TrainingState
from enlight.dreambooth_api.requests import Base, TrainerConfig, TrainingOutcome, TrainingProgress
from enlight.dreambooth_api.trainer import MakeStep, Trainer, main, make_eager_step
from enlight.servicekit.errors import (
    Cancelled,
    InvalidField,
    JobFailed,
    NotFound,
    OutOfGpuMemory,
    StorageUnavailable,
    WorkerUnavailable,
)
from enlight.servicekit.object_store import open_store

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


class Jobs:
    """Runs trainings against a bucket of their own."""

    def __init__(self, folder: Path, base: Base, photos: tuple[Path, ...]) -> None:
        self.folder = folder
        self._base = base
        self._photos = photos
        self.store = ModelStore(open_store(f"file://{folder / 'bucket'}", timeout_s=5, retry_total_s=10))

    def config(self, **changes: Any) -> TrainerConfig:
        """A job; names of the request's fields change the request, others the configuration."""
        request = make_request(self._photos)
        of_request = {name: value for name, value in changes.items() if hasattr(request, name)}
        of_config = {name: value for name, value in changes.items() if name not in of_request}
        return make_config(self.folder, self._base, make_request(self._photos, **of_request), **of_config)

    def run(
        self,
        config: TrainerConfig,
        *,
        channel: RecordingChannel | None = None,
        store: ModelStore | None = None,
        make_step: MakeStep = make_eager_step,
    ) -> TrainingOutcome:
        trainer = Trainer(channel or RecordingChannel(), config, store or self.store, make_step=make_step)
        return trainer.run()

    def published(self, version: str) -> dict[str, bytes]:
        """The bytes of a version's files."""
        folder = self.folder / f"download-{version}"
        folder.mkdir()
        self.store.download(self.store.manifest("tiny", version), folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def unet(self, version: str) -> dict[str, torch.Tensor]:
        folder = self.folder / f"unet-{version}"
        folder.mkdir()
        self.store.download(self.store.manifest("tiny", version), folder)
        return load_file(folder / UNET)

    def left(self) -> list[str]:
        """What lies in the work folder."""
        return sorted(path.name for path in (self.folder / "job").iterdir())

    def checkpoints(self) -> list[str]:
        folder = self.folder / "job" / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def jobs(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> Jobs:
    return Jobs(tmp_path, base, photos)


class CrashError(Exception):
    """A trainer that dies."""


def _crash_at(step: int) -> MakeStep:
    def act(state: TrainingState) -> None:
        if state.step == step:
            raise CrashError

    return acting_step(act)


def _forbidden(objective: Objective, max_grad_norm: float) -> StepFunction:
    raise AssertionError("it trains again")


def test_a_job_ends_with_a_published_model(jobs: Jobs, base: Base) -> None:
    # When a job runs as in its child process
    channel = RecordingChannel()
    main(channel, jobs.config(max_training_steps=4, train_text_encoder=True))

    # Then its answer names what is in the bucket
    (outcome,) = channel.results
    assert isinstance(outcome, TrainingOutcome)
    assert outcome.version == jobs.store.current_version("tiny")
    manifest = jobs.store.manifest("tiny", outcome.version)
    assert (manifest.base_name, manifest.base_revision, manifest.kind) == ("tests/tiny", None, "full")
    assert manifest.instance_prompt == "a photo of sks dog"
    assert manifest.parameters["learning_rate"] == 1e-3
    assert manifest.parameters["photos"] == 3
    assert manifest.parameters["final_loss"] == outcome.final_loss
    assert set(manifest.files) == {
        UNET,
        "unet/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
    }
    assert outcome.size_bytes == sum(entry.size_bytes for entry in manifest.files.values())
    assert outcome.steps == 4
    assert outcome.resumed_from_step == 0
    assert 0 < outcome.train_s < outcome.total_s
    assert 0 < outcome.final_loss < 5

    # And the U-Net is another than the base's, in half precision, and the work folder is tidy
    trained, first = jobs.unet(outcome.version), load_file(base.folder / UNET)
    assert trained.keys() == first.keys()
    assert {tensor.dtype for tensor in trained.values()} == {torch.float16}
    assert not torch.equal(trained["conv_in.weight"], first["conv_in.weight"].half())
    assert jobs.left() == ["published.json"]


def test_the_parent_is_told_every_phase(jobs: Jobs) -> None:
    channel = RecordingChannel()
    jobs.run(jobs.config(prior_preservation=True, progress_every_s=0, lr_scheduler="linear"), channel=channel)
    phases = list(dict.fromkeys(sent.phase for sent in channel.sent))
    assert phases == ["loading", "photos", "class_images", "training", "saving", "publishing"]
    training = [sent for sent in channel.sent if sent.phase == "training"]
    assert [sent.step for sent in training] == [0, 1, 2, 3]
    assert [sent.learning_rate for sent in training[1:]] == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])
    assert all(sent.steps == 3 for sent in training)
    assert all(sent.loss and sent.loss > 0 for sent in training[1:])
    assert training[-1].remaining_s == 0


def test_a_training_learns(jobs: Jobs) -> None:
    # Given one photo and enough updates to learn it
    config = jobs.config(max_training_steps=60, learning_rate=2e-3, progress_every_s=0, train_batch_size=2)
    channel = RecordingChannel()
    jobs.run(config, channel=channel)

    # Then the loss is clearly smaller at the end
    losses = [sent.loss for sent in channel.sent if sent.loss is not None]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.fixture(
    scope="module",
    params=[
        {"kind": "full"},
        {"kind": "full", "train_text_encoder": True, "gradient_accumulation_steps": 2},
        {"kind": "lora", "prior_preservation": True},
        {"kind": "lora", "train_text_encoder": True, "lora_alpha": 8, "lr_scheduler": "cosine"},
    ],
    ids=["full", "full with text encoder", "lora with prior", "lora with text encoder"],
)
def uninterrupted(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    base: Base,
    photos: tuple[Path, ...],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a job of six updates changes in the usual one, and the files that it publishes."""
    jobs = Jobs(tmp_path_factory.mktemp("uninterrupted"), base, photos)
    changes = {**request.param, "max_training_steps": 6, "checkpoint_every_steps": 2}
    return changes, jobs.published(jobs.run(jobs.config(**changes)).version)


@pytest.mark.parametrize("crash_at", [0, 3, 4])
def test_a_job_that_died_at_any_update_ends_with_the_same_bytes(
    jobs: Jobs, uninterrupted: tuple[dict[str, Any], dict[str, bytes]], crash_at: int
) -> None:
    # Given a job that dies at an update
    changes, expected = uninterrupted
    with pytest.raises(CrashError):
        jobs.run(jobs.config(**changes), make_step=_crash_at(crash_at))

    # When it is started again
    outcome = jobs.run(jobs.config(**changes))

    # Then it went on from the last checkpoint and published what an uninterrupted one publishes
    assert outcome.resumed_from_step == crash_at // 2 * 2
    assert jobs.published(outcome.version) == expected


def test_checkpoints_come_when_they_should_and_only_as_many_stay(jobs: Jobs) -> None:
    # Given a job with a checkpoint every second update, of which two stay
    seen: dict[int, list[str]] = {}

    def look(state: TrainingState) -> None:
        seen[state.step] = jobs.checkpoints()

    jobs.run(
        jobs.config(max_training_steps=9, checkpoint_every_steps=2, keep_checkpoints=2),
        make_step=acting_step(look),
    )

    # Then before each update there are those of the updates before it
    names = {step: f"step-{step:08d}" for step in range(10)}
    assert seen[1] == []
    assert seen[2] == [names[2]]
    assert seen[5] == [names[2], names[4]]
    assert seen[8] == [names[6], names[8]]
    assert jobs.left() == ["published.json"]


def test_another_job_in_the_same_folder_begins_at_the_beginning(jobs: Jobs) -> None:
    # Given the checkpoint of a job that died
    with pytest.raises(CrashError):
        jobs.run(jobs.config(checkpoint_every_steps=1), make_step=_crash_at(2))
    assert jobs.checkpoints() == ["step-00000002"]

    # When a job with another seed runs in its folder
    outcome = jobs.run(jobs.config(checkpoint_every_steps=1, seed=8))

    # Then it does not use it
    assert outcome.resumed_from_step == 0


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    # Given that a file is where the checkpoints should be
    (jobs.folder / "job").mkdir()
    (jobs.folder / "job" / "checkpoints").write_bytes(b"")

    # When a job runs
    outcome = jobs.run(jobs.config(checkpoint_every_steps=1))

    # Then it ends well, and the log says what is missing
    assert outcome.steps == 3
    assert "checkpoint at update 1 is not kept" in caplog.text


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_cancelled_job_stops_within_an_update(jobs: Jobs, at: int) -> None:
    # Given a job that is cancelled during an update
    channel = RecordingChannel()
    begun: list[int] = []

    def act(state: TrainingState) -> None:
        begun.append(state.step)
        channel.cancel = state.step == at

    # When it runs
    with pytest.raises(Cancelled):
        jobs.run(jobs.config(max_training_steps=50), channel=channel, make_step=acting_step(act))

    # Then no further update began, and nothing is published
    assert begun == list(range(at + 1))
    assert jobs.store.model_ids() == []


@pytest.mark.parametrize("phase", ["loading", "photos", "class_images", "saving"])
def test_a_job_is_cancelled_in_every_phase(jobs: Jobs, phase: str) -> None:
    def cancel(progress: TrainingProgress) -> None:
        channel.cancel = channel.cancel or progress.phase == phase

    channel = RecordingChannel(cancel)
    with pytest.raises(Cancelled):
        jobs.run(jobs.config(prior_preservation=True, progress_every_s=0), channel=channel)
    assert list(dict.fromkeys(sent.phase for sent in channel.sent))[-1] == phase
    assert jobs.store.model_ids() == []


def test_a_stopping_service_gets_a_checkpoint_first(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    # Given an uninterrupted job, and one whose service stops during its fourth update
    whole, stopped = (Jobs(tmp_path / name, base, photos) for name in ("whole", "stopped"))
    expected = whole.published(whole.run(whole.config(max_training_steps=6)).version)
    channel = RecordingChannel()

    def act(state: TrainingState) -> None:
        channel.closing = state.step == 3

    # When it stops
    with pytest.raises(WorkerUnavailable, match="resumes"):
        stopped.run(stopped.config(max_training_steps=6), channel=channel, make_step=acting_step(act))

    # Then all four updates are in a checkpoint, and the next attempt goes on with the fifth
    assert stopped.checkpoints() == ["step-00000004"]
    outcome = stopped.run(stopped.config(max_training_steps=6))
    assert outcome.resumed_from_step == 4
    assert stopped.published(outcome.version) == expected


def test_a_cancelled_job_writes_no_checkpoint_even_when_the_service_stops(jobs: Jobs) -> None:
    channel = RecordingChannel()

    def act(state: TrainingState) -> None:
        channel.closing = channel.cancel = True

    with pytest.raises(Cancelled):
        jobs.run(jobs.config(), channel=channel, make_step=acting_step(act))
    assert jobs.checkpoints() == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_too_little_memory_says_what_helps(jobs: Jobs, error: Exception) -> None:
    def act(state: TrainingState) -> None:
        raise error

    with pytest.raises(OutOfGpuMemory) as caught:
        jobs.run(jobs.config(), make_step=acting_step(act))
    for setting in ("TRAIN_BATCH_SIZE", "gradient checkpointing", "LoRA", "RESOLUTION"):
        assert setting in caught.value.message


def test_too_much_memory_asked_of_this_machine_is_the_same_error(jobs: Jobs) -> None:
    def act(state: TrainingState) -> None:
        torch.ones(1 << 50)

    with pytest.raises(OutOfGpuMemory):
        jobs.run(jobs.config(), make_step=acting_step(act))


def test_another_error_stays_what_it_is(jobs: Jobs) -> None:
    def act(state: TrainingState) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        jobs.run(jobs.config(), make_step=acting_step(act))


def _break_a_weight(state: TrainingState) -> None:
    with torch.no_grad():
        state.parameters["unet.conv_in.bias"][0] = float("nan")


def test_a_loss_that_is_no_number_ends_the_job(jobs: Jobs) -> None:
    # Given a training that diverges after its first checkpoint
    def act(state: TrainingState) -> None:
        if state.step == 2:
            _break_a_weight(state)

    # When it runs, with a checkpoint after each update
    with pytest.raises(JobFailed, match="diverged"):
        jobs.run(jobs.config(max_training_steps=9, checkpoint_every_steps=1), make_step=acting_step(act))

    # Then the diverged state is in no checkpoint, and nothing is published
    assert jobs.checkpoints() == ["step-00000002"]
    assert jobs.store.model_ids() == []


def test_weights_that_are_no_numbers_are_never_published(jobs: Jobs) -> None:
    # Given an update after the last loss that breaks the weights
    def act(state: TrainingState) -> None:
        if state.step == 2:
            _break_a_weight(state)

    with pytest.raises(JobFailed, match=r"unet\.conv_in\.bias"):
        jobs.run(jobs.config(), make_step=acting_step(act, after=True))
    assert jobs.store.model_ids() == []


@pytest.mark.parametrize("resolution_px", [60, 24, 136])
def test_a_resolution_that_the_base_cannot_do_names_the_field(jobs: Jobs, resolution_px: int) -> None:
    with pytest.raises(InvalidField, match="RESOLUTION"):
        jobs.run(jobs.config(resolution_px=resolution_px))


@pytest.mark.parametrize("resolution_px", [32, 128])
def test_other_resolutions_train(jobs: Jobs, resolution_px: int) -> None:
    assert jobs.run(jobs.config(resolution_px=resolution_px, max_training_steps=1)).steps == 1


def test_gradient_checkpointing_publishes_the_same_model_to_a_rounding(
    tmp_path: Path, base: Base, photos: tuple[Path, ...]
) -> None:
    plain, saving = (Jobs(tmp_path / name, base, photos) for name in ("plain", "saving"))
    expected = plain.unet(plain.run(plain.config()).version)
    found = saving.unet(saving.run(saving.config(gradient_checkpointing=True)).version)
    assert all(torch.allclose(found[name], expected[name], atol=1e-4) for name in expected)


def test_a_trainer_of_a_worker_publishes_without_the_alias(jobs: Jobs) -> None:
    outcome = jobs.run(jobs.config(version="v-a0001", move_alias=False))
    assert outcome.version == "v-a0001"
    assert jobs.store.versions("tiny") == ["v-a0001"]
    with pytest.raises(NotFound):
        jobs.store.current_version("tiny")


class BrokenBucket(ModelStore):
    """A store that cannot be reached, or that dies after it has published."""

    def __init__(self, store: ModelStore, *, after: bool) -> None:
        self._store = store
        self._after = after

    def new_version(self) -> str:
        return self._store.new_version()

    def current_version(self, model_id: str) -> str:
        return self._store.current_version(model_id)

    def publish(
        self,
        model_id: str,
        folder: Path,
        description: ModelDescription,
        *,
        version: str | None = None,
        move_alias: bool = True,
    ) -> Manifest:
        if self._after:
            self._store.publish(model_id, folder, description, version=version)
        raise StorageUnavailable("no bucket")


@pytest.mark.parametrize("after", [False, True])
def test_a_bucket_that_fails_costs_no_second_training(jobs: Jobs, after: bool) -> None:
    # Given a job whose publication failed, before or after the model was there
    config = jobs.config(checkpoint_every_steps=1)
    with pytest.raises(StorageUnavailable):
        jobs.run(config, store=BrokenBucket(jobs.store, after=after))

    # When it is started again
    channel = RecordingChannel()
    outcome = jobs.run(config, channel=channel, make_step=_forbidden)

    # Then it publishes without training, and there is one version
    assert [sent.phase for sent in channel.sent] == ["loading", "publishing"]
    assert jobs.store.versions("tiny") == [outcome.version]
    assert jobs.left() == ["published.json"]


def test_a_damaged_finished_model_is_trained_again(jobs: Jobs) -> None:
    config = jobs.config()
    with pytest.raises(StorageUnavailable):
        jobs.run(config, store=BrokenBucket(jobs.store, after=False))
    path = jobs.folder / "job" / "finished" / "model" / UNET
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    channel = RecordingChannel()
    jobs.run(config, channel=channel)
    assert "training" in {sent.phase for sent in channel.sent}


def test_a_job_that_died_before_its_answer_answers_from_its_note(jobs: Jobs) -> None:
    # Given a job that ended, and a parent that never heard of it
    config = jobs.config()
    outcome = jobs.run(config)

    # When it is started again, then it does nothing and says the same
    assert jobs.run(config, make_step=_forbidden) == outcome
    assert jobs.store.versions("tiny") == [outcome.version]


@pytest.mark.parametrize("change", ["deleted", "moved on"])
def test_the_note_does_not_count_when_the_bucket_has_changed(jobs: Jobs, change: str) -> None:
    config = jobs.config()
    first = jobs.run(config)
    if change == "deleted":
        jobs.store.delete("tiny")
    else:
        jobs.run(replace(config, request=replace(config.request, seed=9), job_folder=jobs.folder / "other"))
    second = jobs.run(config)
    assert second.version != first.version
    assert jobs.store.current_version("tiny") == second.version


def test_a_version_that_the_caller_chose_is_used(jobs: Jobs) -> None:
    outcome = jobs.run(jobs.config(version="20260101T000000000000-00000001"))
    assert outcome.version == "20260101T000000000000-00000001"


def test_prepared_data_are_not_made_again(jobs: Jobs) -> None:
    # Given a job that died after its class images were made
    config = jobs.config(prior_preservation=True)
    with pytest.raises(CrashError):
        jobs.run(config, make_step=_crash_at(1))

    # When it is started again, then it neither reads photos nor makes class images
    channel = RecordingChannel()
    jobs.run(config, channel=channel)
    assert {sent.phase for sent in channel.sent} == {"loading", "training", "saving", "publishing"}


def test_the_manifest_holds_no_path(jobs: Jobs) -> None:
    outcome = jobs.run(jobs.config())
    manifest = jobs.store.manifest("tiny", outcome.version)
    assert str(jobs.folder) not in json.dumps(manifest.to_json().decode())
    assert all(b"/tmp" not in content for content in jobs.published(outcome.version).values())
    shutil.rmtree(jobs.folder / "job")
