"""One DreamBooth job in its own process: load, prepare, train, save, publish; resumed where it was left.

The work folder holds, each of them whole or absent: ``data/`` (what is computed once), ``checkpoints/``,
``finished/`` (the trained model until it is published) and ``published.json``. An attempt begins after the
last of these that is there.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import shutil
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from enlight.dreambooth_api.checkpoints import Checkpoints
from enlight.dreambooth_api.model_store import ModelDescription, ModelStore
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.training import Objective, StepFunction, eager_step, run_updates
from enlight.dreambooth_api.requests import SAMPLE_FIELDS, TrainerConfig, TrainingOutcome, TrainingRequest
from enlight.dreambooth_api.training_data import PreparedData, load_data, prepare_data, save_data
from enlight.dreambooth_api.training_identity import training_fingerprint
from enlight.dreambooth_api.training_progress import (
    JOB_TASK_ID,
    ProgressReporter,
    TrainerChannel,
    peak_memory_bytes,
    raise_if_unwanted,
    remark,
)
from enlight.dreambooth_api.training_results import TrainingRecord, TrainingResults
from enlight.dreambooth_api.training_samples import TrainingSamples, training_samples
from enlight.dreambooth_api.training_setup import (
    Training,
    check_request,
    choose_autocast,
    set_up_training,
)
from enlight.servicekit import atomic_files
from enlight.servicekit.errors import NotFound, OutOfGpuMemory, ServiceError, StorageFull
from enlight.servicekit.object_store import open_store
from enlight.torchkit.device import choose_device
from enlight.torchkit.gpu_errors import is_out_of_memory

_log = logging.getLogger(__name__)

_NO_HOST_MEMORY = "can't allocate memory"  # torch on a CPU

UPDATES_IN_FLIGHT = 2
"""Updates queued on a GPU ahead of the one that it computes; more would make a cancellation late."""

MakeStep = Callable[[Objective, float], StepFunction]
"""(objective, largest gradient norm) -> the function that does one update."""


def make_eager_step(objective: Objective, max_grad_norm: float) -> StepFunction:
    """The plain step."""
    return eager_step(objective, max_grad_norm=max_grad_norm)


def main(channel: TrainerChannel, config: TrainerConfig) -> None:
    """Entry point of the child process: does the job and answers it with a TrainingOutcome.

    Raises: what ``Trainer.run`` raises; the child's frame passes it on to the parent.
    """
    store = open_store(
        config.store.bucket_url, timeout_s=config.store.timeout_s, retry_total_s=config.store.retry_total_s
    )
    try:
        outcome = Trainer(channel, config, ModelStore(store)).run()
    except ServiceError:
        raise
    except Exception:
        remark(channel, "error", "The trainer met an error that was not foreseen.", traceback.format_exc())
        raise
    channel.result(JOB_TASK_ID, outcome)


class Trainer:
    """One job.

    Args:
        channel: Takes the progress; says when to stop.
        config: The job.
        store: Where the model is published.
        make_step: Makes the function that does one update.
    """

    def __init__(
        self,
        channel: TrainerChannel,
        config: TrainerConfig,
        store: ModelStore,
        *,
        make_step: MakeStep = make_eager_step,
    ) -> None:
        self._channel = channel
        self._config = config
        self._request = config.request
        self._store = store
        self._make_step = make_step
        self._begun_s = time.monotonic()
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)
        self._device = choose_device(config.device)
        self._autocast_dtype = choose_autocast(config.mixed_precision, self._device)
        self._reporter = ProgressReporter(channel, device=self._device, every_s=config.progress_every_s)
        self._data_folder = config.job_folder / "data"
        self._checkpoints_folder = config.job_folder / "checkpoints"

    def run(self) -> TrainingOutcome:
        """Do whatever of the job is not done yet.

        Raises:
            Cancelled: somebody cancelled it.
            WorkerUnavailable: the service stops; what was trained is in a checkpoint.
            InvalidField: the base cannot be trained at this resolution.
            WeightsUnavailable, CorruptModel: the base cannot be loaded.
            BrokenImage, UnsupportedImage, ImageTooLarge: a photo cannot be read.
            OutOfGpuMemory: it does not fit; the message says what helps.
            JobFailed: the training diverged; nothing was published.
            StorageFull, StorageUnavailable: saving or publishing failed; an identical request goes on there.
        """
        self._reporter.phase("loading", 0, self._request.max_training_steps)
        self._config.job_folder.mkdir(parents=True, exist_ok=True)
        atomic_files.sweep_temporaries(self._config.job_folder, older_than_s=0)  # of an attempt that was killed
        fingerprint = training_fingerprint(self._config)
        results = TrainingResults(self._config.job_folder, fingerprint)
        outcome = self._earlier_outcome(results)
        if outcome is None:
            record = results.load_finished()
            if record is None:
                with _memory_errors():
                    record = self._train(fingerprint, results)
            raise_if_unwanted(self._channel)
            outcome = self._publish(record, results)
        self._clean_up(results)
        return outcome

    def _train(self, fingerprint: str, results: TrainingResults) -> TrainingRecord:
        config, request = self._config, self._request
        pipeline = StableDiffusion.load(config.base.folder, device=self._device, weights_dtype=torch.float32)
        check_request(request, config.base, pipeline)
        data = self._load_or_prepare_data(pipeline, fingerprint)
        samples = training_samples(pipeline, config, self._channel, self._reporter, autocast_dtype=self._autocast_dtype)
        training = set_up_training(
            pipeline,
            request,
            data,
            autocast_dtype=self._autocast_dtype,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        state = training.state
        checkpoints = Checkpoints(self._checkpoints_folder, fingerprint=fingerprint, keep=config.keep_checkpoints)
        if checkpoints.restore(state):
            _log.info("training resumes from update %d of %d", state.step, training.plan.steps)
        else:
            _log.info("training begins: %d updates", training.plan.steps)
        resumed_from_step = state.step
        self._reporter.begin_training(state.step, training.plan.steps)
        if self._device.type == "cuda":
            # Every update has the same shapes. Not earlier: trying the algorithms for the VAE at full size takes tens
            # of gigabytes, for a few photos.
            torch.backends.cudnn.benchmark = True
        begun_s = time.monotonic()
        self._run_updates(training, checkpoints, samples)
        record = TrainingRecord(
            version=config.version or self._store.new_version(),
            steps=state.step,
            resumed_from_step=resumed_from_step,
            final_loss=float(state.mean_recent_loss().item()),
            train_s=time.monotonic() - begun_s,
        )
        self._reporter.phase("saving", state.step, state.step)
        try:
            results.save_finished(state.parameters, config, record)
        except OSError as error:
            raise _storage_error(error) from error
        return record

    def _load_or_prepare_data(self, pipeline: StableDiffusion, fingerprint: str) -> PreparedData:
        data = load_data(self._data_folder, fingerprint)
        if data is None:
            data = prepare_data(
                pipeline,
                self._request,
                class_image_steps=self._config.base.default_steps,
                autocast_dtype=self._autocast_dtype,
                report=self._reporter.phase,
                check=lambda: raise_if_unwanted(self._channel),
            )
            try:
                save_data(data, self._data_folder, fingerprint)
            except OSError as error:
                _log.warning("the prepared data are not kept: %s", error)
        return data

    def _run_updates(self, training: Training, checkpoints: Checkpoints, samples: TrainingSamples | None) -> None:
        state, steps = training.state, training.plan.steps
        saved_step = state.step
        in_flight: deque[torch.cuda.Event] = deque()

        def save_checkpoint() -> None:
            nonlocal saved_step
            self._reporter.require_finite_loss()  # a diverged state is not worth going on from
            try:
                checkpoints.save(state)
                saved_step = state.step
            except OSError as error:  # the training is worth more than its checkpoint
                _log.warning("checkpoint at update %d is not kept: %s", state.step, error)
                remark(self._channel, "warning", f"The checkpoint of step {state.step} could not be written.")

        def before_update() -> None:
            if self._channel.closing and not self._channel.cancelled(JOB_TASK_ID) and state.step > saved_step:
                save_checkpoint()
            raise_if_unwanted(self._channel)

        def after_update(loss: torch.Tensor, learning_rate: float) -> None:
            self._reporter.update(state.step, steps, loss, learning_rate)
            if state.step % self._config.checkpoint_every_steps == 0 and state.step < steps:
                save_checkpoint()
            if samples:
                samples.make_if_due(state.step)
            if self._device.type == "cuda":
                in_flight.append(torch.cuda.current_stream(self._device).record_event())
                if len(in_flight) > UPDATES_IN_FLIGHT:
                    in_flight.popleft().synchronize()

        if samples:  # the checkpoint's, which a stop may have kept from being made
            samples.make_if_due(state.step)
        step_function = self._make_step(training.objective, self._request.max_grad_norm)
        run_updates(
            state,
            training.plan,
            training.objective,
            step_function,
            before_update=before_update,
            after_update=after_update,
        )

    def _publish(self, record: TrainingRecord, results: TrainingResults) -> TrainingOutcome:
        request, base = self._request, self._config.base
        self._reporter.phase("publishing", record.steps, record.steps)
        parameters = published_parameters(request) | {"final_loss": record.final_loss}
        manifest = self._store.publish(
            request.model_id,
            results.model_folder,
            ModelDescription(
                base_name=base.name,
                base_revision=base.revision,
                kind=request.kind,
                instance_prompt=request.instance_prompt,
                parameters=parameters,
            ),
            version=record.version,
            move_alias=self._config.move_alias,
        )
        outcome = TrainingOutcome(
            model_id=request.model_id,
            version=manifest.version,
            steps=record.steps,
            resumed_from_step=record.resumed_from_step,
            final_loss=record.final_loss,
            train_s=record.train_s,
            total_s=time.monotonic() - self._begun_s,
            peak_memory_bytes=peak_memory_bytes(self._device),
            size_bytes=sum(entry.size_bytes for entry in manifest.files.values()),
            parameters=parameters,
        )
        try:
            results.save_published(outcome)
        except OSError as error:
            _log.warning("the publication is not noted: %s", error)
        return outcome

    def _earlier_outcome(self, results: TrainingResults) -> TrainingOutcome | None:
        """What an earlier attempt published and could not tell; None when the bucket has moved on since."""
        outcome = results.load_published()
        if outcome is None:
            return None
        try:
            current = self._store.current_version(self._request.model_id)
        except NotFound:
            return None
        return outcome if current == outcome.version else None

    def _clean_up(self, results: TrainingResults) -> None:
        results.remove_finished()
        for folder in (self._checkpoints_folder, self._data_folder):
            shutil.rmtree(folder, ignore_errors=True)


def published_parameters(request: TrainingRequest) -> dict[str, object]:
    """The hyper-parameters that a published model's manifest holds."""
    parameters: dict[str, object] = dataclasses.asdict(request)
    parameters["photos"] = len(request.photos)
    for told_apart in ("model_id", "base_name", "kind", "instance_prompt", *SAMPLE_FIELDS):
        del parameters[told_apart]
    return parameters


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turns every way of saying that memory ran out into one error that says what helps."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or is_out_of_memory(error) or _NO_HOST_MEMORY in str(error)):
            raise
        _log.warning("out of memory: %s", error)
        raise OutOfGpuMemory(
            "The training does not fit into memory. What helps, in this order: TRAIN_BATCH_SIZE 1, gradient "
            "checkpointing, a LoRA (kind `lora`) instead of the whole U-Net, a smaller RESOLUTION, the text "
            "encoder not trained."
        ) from error


def _storage_error(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no room for the trained model on the disk of the work folder.")
    return error
