"""The process that owns the GPU: takes generations, batches them across requests, answers with pictures.

Three kinds of threads. One receives tasks and starts a thread for each, which brings the model's files to
this machine. The main thread alone touches the GPU: it takes batches from the queue and runs them. A pool
encodes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray

from enlight.dreambooth_api.admission import Admission
from enlight.dreambooth_api.batch_runner import BatchRunner, Sampler
from enlight.dreambooth_api.batching import BatchKey, SlotQueue
from enlight.dreambooth_api.delivery import Delivery
from enlight.dreambooth_api.engine_metrics import BATCH_IMAGES, DAMAGED, EVICTIONS, GENERATION
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.pure.inference import sample_conditioned
from enlight.dreambooth_api.requests import EngineConfig, GenerationRequest
from enlight.dreambooth_api.resident_bases import ResidentBases
from enlight.dreambooth_api.weight_tiers import WeightTiers
from enlight.servicekit.child import ChildChannel, Task
from enlight.servicekit.errors import Cancelled, QueueFull, WorkerUnavailable
from enlight.servicekit.measurements import MEASURED, Measurements
from enlight.servicekit.object_store import open_store
from enlight.torchkit.device import choose_device, device_state
from enlight.torchkit.gpu_errors import is_device_fault

logger = logging.getLogger(__name__)

POLL_S = 0.1
"""How soon a cancellation or the end is noticed while no batch runs."""
SIGN_OF_LIFE_S = 5.0
"""While no batch runs the parent hears from the main thread this often: of the GPU's memory, which others use too, and
that it does not hang while models are being fetched."""
MAX_FETCHES = 64
"""Models being fetched at once, those of requests that were cancelled meanwhile included."""
FAULT_EXIT_S = 5.0
"""A process with a broken CUDA context may hang in its own tear-down; it gets this long."""


def main(channel: ChildChannel, config: EngineConfig, *, sampler: Sampler = sample_conditioned) -> None:
    """Serves generations until the parent asks this process to end.

    Raises:
        RuntimeError: the GPU failed; the process has to end, its parent starts another.
    """
    device = choose_device(config.device)
    if device.type == "cpu" and config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    objects = open_store(
        config.store.bucket_url,
        timeout_s=config.store.timeout_s,
        retry_total_s=config.store.retry_total_s,
    )
    models = ModelCache(
        config.store.cache_folder,
        ModelStore(objects),
        quota_bytes=config.store.cache_quota_bytes,
        alias_ttl_s=config.store.alias_ttl_s,
        fetch_timeout_s=config.store.fetch_timeout_s,
    )
    measurements = Measurements()
    bases = ResidentBases(device, config.max_bases)
    tiers = WeightTiers(device, gpu_cache_bytes=config.gpu_cache_bytes, host_cache_bytes=config.host_cache_bytes)
    Engine(
        channel,
        device=device,
        admission=Admission(config.bases, models),
        models=models,
        runner=BatchRunner(device, bases=bases, tiers=tiers, sampler=sampler),
        bases=bases,
        tiers=tiers,
        queue=SlotQueue(max_batch_images=config.max_batch_images, window_s=config.batch_window_s),
        delivery=Delivery(channel, config.encoder_threads, measurements),
        measurements=measurements,
    ).run()


class Engine:
    """The loop of the main thread, and what the other threads hand it.

    It is the ``BatchOwner`` of every batch: it drops rows whose request was cancelled, reports progress, and
    hands pictures to be encoded.
    """

    def __init__(
        self,
        channel: ChildChannel,
        *,
        device: torch.device,
        admission: Admission,
        models: ModelCache,
        runner: BatchRunner,
        bases: ResidentBases,
        tiers: WeightTiers,
        queue: SlotQueue,
        delivery: Delivery,
        measurements: Measurements,
    ) -> None:
        self._channel = channel
        self._device = device
        self._admission = admission
        self._runner = runner
        self._bases = bases
        self._tiers = tiers
        self._delivery = delivery
        self._models = models
        self._measurements = measurements
        self._fetches = threading.BoundedSemaphore(MAX_FETCHES)
        self._published_s = 0.0
        self._images = 0
        self._batches: Counter[int] = Counter()
        self._unreported: set[Row] = set()
        self._changed = threading.Condition()
        # below: under self._changed
        self._queue = queue
        self._generations: dict[int, Generation] = {}

    def run(self) -> None:
        """Serves until the parent asks this process to end, then finishes what waits for nothing but the GPU.

        Raises:
            RuntimeError: the GPU failed; the process has to end, and the parent answers what is in flight.
        """
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
        self._publish()
        self._channel.ready()
        try:
            while not (self._channel.closing and self._drained()):
                batch = self._next_batch()
                if batch is not None:
                    self._run_batch(*batch)
                    self._publish()
                elif time.monotonic() - self._published_s > SIGN_OF_LIFE_S:
                    self._publish()
        finally:
            self._delivery.stop()
            self._runner.stop()

    # The threads that receive and fetch

    def _receive(self) -> None:
        while not self._channel.closing:
            task = self._channel.receive(None)
            if task is not None:
                self._accept(task)

    def _accept(self, task: Task) -> None:
        if not isinstance(task.payload, GenerationRequest):
            self._channel.fail(task.id, TypeError(f"not a generation: {type(task.payload)}"))
            return
        generation = Generation(task, task.payload, time.monotonic())
        with self._changed:
            self._generations[task.id] = generation
        if self._fetches.acquire(blocking=False):
            threading.Thread(target=self._fetch, args=(generation,), name="fetch", daemon=True).start()
        else:
            self._delivery.fail(generation, QueueFull("Too many models are being fetched from the bucket."))

    def _fetch(self, generation: Generation) -> None:
        with generation.task.log_context():
            try:
                with self._measurements.stage(GENERATION, "fetch"):
                    admitted = self._admission.admit(generation.request)
            except Exception as error:  # noqa: BLE001 - the task must be answered whatever went wrong
                self._delivery.fail(generation, error)
                return
            finally:
                self._fetches.release()
        with self._changed:
            # Under the lock: once admitted, it is in the queue before the main thread can look at it.
            if generation.admit(admitted):
                self._queue.add(generation.task.id, admitted.key, generation.request.count, now_s=time.monotonic())
                self._changed.notify_all()

    # The main thread

    def _next_batch(self) -> tuple[BatchKey, list[Row]] | None:
        """The next batch if there is one now or soon; it waits for ``POLL_S`` at most."""
        self._sweep()
        with self._changed:
            delay_s = self._queue.delay_s(time.monotonic())
            if delay_s is None or delay_s > 0:
                self._changed.wait(POLL_S if delay_s is None else min(POLL_S, delay_s))
                return None
            taken = self._queue.take()
            assert taken is not None
            key, slots = taken
            return key, [Row(self._generations[slot.request_id], slot.image) for slot in slots]

    def _run_batch(self, key: BatchKey, rows: list[Row]) -> None:
        self._prefetch_next()
        self._unreported = set(rows)
        try:
            with self._measurements.stage(GENERATION, "run"):
                self._runner.run(key, rows, self)
        except Exception as error:
            if is_device_fault(error):
                # Answered by the parent, when this process is gone: whoever tries again then meets a new one.
                _exit_soon()
                raise RuntimeError(f"the GPU failed: {error}") from error
            self.failed(list(self._unreported), error)

    def _prefetch_next(self) -> None:
        with self._changed:
            upcoming = next(iter(self._queue.request_ids()), None)
            admitted = self._generations[upcoming].admitted if upcoming is not None else None
        if admitted is not None and admitted.cached is not None:
            self._runner.prefetch(admitted.cached)

    def _sweep(self) -> None:
        """Answers what was cancelled, forgets what was answered."""
        with self._changed:
            generations = list(self._generations.values())
        for generation in generations:
            if self._channel.cancelled(generation.task.id):
                self._delivery.fail(generation, Cancelled())
            if generation.closed:
                with self._changed:
                    self._queue.cancel(generation.task.id)
                    del self._generations[generation.task.id]

    def _drained(self) -> bool:
        """Whether everything is answered; what still waits for the bucket is, with an error."""
        with self._changed:
            generations = list(self._generations.values())
        for generation in generations:
            if generation.admitted is None:
                self._delivery.fail(generation, WorkerUnavailable("The service is shutting down."))
        return self._in_flight() == 0

    def _in_flight(self) -> int:
        with self._changed:
            return sum(not generation.closed for generation in self._generations.values())

    def _publish(self) -> None:
        """Tells the parent how the engine is; it is shown under ``/ready``, ``/metrics`` and ``/v1/status``."""
        resident = self._runner.resident
        self._published_s = time.monotonic()
        with self._changed:
            waiting_images = len(self._queue)
        self._measure_caches()
        self._channel.state(
            {
                MEASURED: self._measurements.take(),
                **device_state(self._device),
                "bases": self._bases.names,
                "resident_base": resident.base.name if resident else None,
                "resident_model": resident.buffers.resident if resident else None,
                "models": self._tiers.told(resident.buffers if resident else None),
                "gpu_cache_bytes": self._tiers.gpu.used_bytes,
                "host_cache_bytes": self._tiers.host.used_bytes,
                "in_flight": self._in_flight(),
                "waiting_images": waiting_images,
                "images_total": self._images,
                "batches_total": sum(self._batches.values()),
                "batches_by_images": {str(size): count for size, count in sorted(self._batches.items())},
                "out_of_memory_total": self._runner.out_of_memory_count,
            }
        )

    def _measure_caches(self) -> None:
        on_disk = self._models.counts()
        self._measurements.reach(EVICTIONS, self._tiers.gpu.evictions, "gpu")
        self._measurements.reach(EVICTIONS, self._tiers.host.evictions, "host")
        self._measurements.reach(EVICTIONS, on_disk["evictions"], "disk")
        self._measurements.reach(DAMAGED, on_disk["quarantined"])

    # What a running batch reports

    def wanted(self, rows: list[Row]) -> list[Row]:
        """Rows whose request is neither cancelled nor answered."""
        self._sweep()
        return [row for row in rows if not row.generation.closed]

    def stepped(self, rows: list[Row], step: int, steps: int) -> None:
        """Progress of each request."""
        for generation in dict.fromkeys(row.generation for row in rows):
            self._channel.progress(generation.task.id, generation.progress(step, steps))

    def finished(self, rows: list[Row], pictures: NDArray[np.uint8], batch_images: int) -> None:
        """Pictures to encode."""
        self._unreported -= set(rows)
        self._images += len(rows)
        self._batches[batch_images] += 1
        self._measurements.add(BATCH_IMAGES, batch_images)
        self._delivery.deliver(rows, pictures, batch_images)

    def failed(self, rows: list[Row], error: Exception) -> None:
        """The requests of these rows cannot be answered with pictures."""
        self._unreported -= set(rows)
        for generation in dict.fromkeys(row.generation for row in rows):
            self._delivery.fail(generation, error)


def _exit_soon() -> None:
    """Ends this process in ``FAULT_EXIT_S`` even if its tear-down hangs."""
    timer = threading.Timer(FAULT_EXIT_S, os._exit, [1])
    timer.daemon = True
    timer.start()
