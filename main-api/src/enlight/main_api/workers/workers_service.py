"""What `GET /v1/workers` shows, and which models are kept where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from enlight.jobkit.job_store import JobStore
from enlight.main_api.models.names import ModelNames, NamedModel
from enlight.main_api.workers.instance_looks import InstanceLooks, SeenInstance
from enlight.main_api.workers.training_workers import TrainingWorker, TrainingWorkers
from enlight.main_api.workers.views import ModelCopyView, QueueView, ResidentModelView, WorkersView, WorkerView
from enlight.servicekit.service_status import HeldModel


class WorkersService:
    """The processes of the services, the training workers, the queue.

    Args:
        looks: The services' processes.
        training_workers: Those of the queue.
        names: Whose model a bucket id is.
        jobs: What waits and runs.
    """

    def __init__(
        self, looks: InstanceLooks, training_workers: TrainingWorkers, names: ModelNames, jobs: JobStore
    ) -> None:
        self._looks = looks
        self._training_workers = training_workers
        self._names = names
        self._jobs = jobs

    def view(self) -> WorkersView:
        """All of them. Raises: DatabaseUnavailable."""
        seen = self._looks.seen()
        resident = {held.model_id for each in seen for held in _in_memory(each) if held.version is not None}
        owners = self._names.owners(resident)
        return WorkersView(
            workers=[
                *(_instance_view(each, owners) for each in seen),
                *(_training_worker_view(worker) for worker in self._training_workers.seen()),
            ],
            queue=QueueView(queued=self._jobs.count("queued"), running=self._jobs.count("running")),
        )

    def copies(self) -> Mapping[str, Sequence[ModelCopyView]]:
        """By bucket id: where versions of the trained models are kept."""
        copies: dict[str, list[ModelCopyView]] = defaultdict(list)
        for each in self._looks.seen():
            if each.status is not None and each.is_reachable:
                for held in each.status.models:
                    if held.version is not None:
                        copies[held.model_id].append(
                            ModelCopyView(host=each.status.hostname, tier=held.tier, version=held.version)
                        )
        return copies


def _in_memory(seen: SeenInstance) -> list[HeldModel]:
    if seen.status is None or not seen.is_reachable:
        return []
    return [held for held in seen.status.models if held.tier != "disk"]


def _instance_view(seen: SeenInstance, owners: Mapping[str, NamedModel]) -> WorkerView:
    instance, status = seen.instance, seen.status
    now = status if seen.is_reachable else None
    return WorkerView(
        id=f"{instance.service}@{instance.address}",
        service=instance.service,
        host=status.hostname if status else "",
        url=instance.url,
        state=now.state if now else "unreachable",
        device=status.device if status else None,
        memory_kind=status.memory_kind if status else None,
        memory_used_bytes=now.memory_used_bytes if now else None,
        memory_total_bytes=status.memory_total_bytes if status else None,
        resident_models=[_resident_view(held, owners) for held in _in_memory(seen)],
        queued=now.queued if now else 0,
        running=now.running if now else 0,
        training_id=None,
        seen_at=seen.seen_at,
    )


def _resident_view(held: HeldModel, owners: Mapping[str, NamedModel]) -> ResidentModelView:
    if held.version is None:
        return ResidentModelView(model_id=held.model_id, tenant=None, version=None, tier=held.tier)
    owner = owners.get(held.model_id)
    return ResidentModelView(
        model_id=owner.name if owner else None,
        tenant=owner.tenant if owner else None,
        version=held.version,
        tier=held.tier,
    )


def _training_worker_view(worker: TrainingWorker) -> WorkerView:
    return WorkerView(
        id=f"training-worker@{worker.name}",
        service="training-worker",
        host=worker.host,
        url=None,
        state=worker.state,
        device=None,
        memory_kind=None,
        memory_used_bytes=None,
        memory_total_bytes=None,
        resident_models=[],
        queued=0,
        running=int(worker.state == "busy"),
        training_id=worker.training_id,
        seen_at=worker.seen_at,
    )
