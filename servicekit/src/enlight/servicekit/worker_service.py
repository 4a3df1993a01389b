"""One supervised worker behind the routes: its life, its state, and a request's wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from enlight.servicekit.child_metrics import stage_durations, watch_child
from enlight.servicekit.errors import ClientGone, UpstreamTimeout
from enlight.servicekit.http import Readiness
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.process import Supervisor
from enlight.servicekit.service_settings import ImageServiceSettings
from enlight.servicekit.service_status import ServiceStatus, resident

PASSIVE_THREADS: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of a worker: OpenMP threads that spin while they wait would take a shared CPU's cores from each other."""
CLIENT_CHECK_S = 0.2
"""How often a waiting request looks whether its client is still there."""
STAGES = ("queued", "decode", "run", "encode")
"""Of a picture, in their order; ``queued``: until a thread of the worker took it, ``run``: in the network, or in the
line for it."""
STOP_GRACE_S = 5.0
"""Time that a stopping worker gets for what it has at hand."""


def run_task(worker: Supervisor, payload: object, *, client_gone: Callable[[], bool], timeout_s: float) -> object:
    """Hands ``payload`` to the worker and waits for its answer, for as long as the client does.

    Raises:
        ClientGone: the client left; the worker was told to drop the task.
        QueueFull, WorkerUnavailable: the service is full, or its worker not there; both say when to come again.
        UpstreamTimeout: there was no answer after ``timeout_s``.
        ServiceError: what the worker says of the request itself.
    """
    ticket = worker.submit(payload)
    deadline_s = time.monotonic() + timeout_s
    while not ticket.wait(CLIENT_CHECK_S):
        if client_gone():
            ticket.cancel()
            raise ClientGone("The client left before its answer was ready.")
        if time.monotonic() > deadline_s:
            ticket.cancel()
            raise UpstreamTimeout(
                f"The answer was not ready after {timeout_s:g} s; ask for less, or come again when the service is less "
                "busy."
            )
    return ticket.result()


class StopOnce:
    """A stop that several threads may ask for: the first does it, the others return when it is done.

    A server's exit must not overtake the thread that is stopping the service: what that thread waits for (a
    checkpoint, an answer) would be lost.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._done = False

    @property
    def begun(self) -> bool:
        """Whether anybody asked for it."""
        return self._begun.is_set()

    def __call__(self) -> None:
        """Stops, or waits for whoever is stopping."""
        self._begun.set()
        with self._lock:
            if not self._done:
                self._stop()
                self._done = True


class WorkerService:
    """A service that consists of its routes and one worker.

    Args:
        worker: Not started yet.
        timeout_s: Limit of one request, waiting included.
    """

    def __init__(self, worker: Supervisor, *, timeout_s: float) -> None:
        self._worker = worker
        self._timeout_s = timeout_s
        self.stop = StopOnce(lambda: worker.stop(STOP_GRACE_S))
        """Not ready from now on; the worker ends with what it has at hand."""

    def start(self) -> None:
        """Starts the worker; returns at once."""
        self._worker.start()

    def run(self, payload: object, client_gone: Callable[[], bool]) -> object:
        """The worker's answer to ``payload``; raises as `run_task`."""
        return run_task(self._worker, payload, client_gone=client_gone, timeout_s=self._timeout_s)

    def readiness(self) -> Readiness:
        """State of the worker, with its reasons."""
        state = "defunct" if self.stop.begun else self._worker.state.value
        return Readiness(state=state, details={"worker": self._worker.status})

    def status(self) -> ServiceStatus:
        """The same for ``/v1/status``; the worker publishes as ``loaded`` which networks it has in memory."""
        worker = self._worker.status
        return ServiceStatus(self.readiness().state, worker, resident(cast(Sequence[str], worker.get("loaded", ()))))

    def add_metrics(
        self,
        metrics: ServiceMetrics,
        operation: str,
        *,
        stages: Sequence[str] = STAGES,
        totals: Mapping[str, str] | None = None,
        tells_memory: bool = True,
    ) -> None:
        """What the worker does and is; the rest as for `watch_child`. To be called before `start`."""
        watch_child(
            metrics,
            self._worker,
            "worker",
            stage_durations(metrics),
            {operation: stages},
            totals,
            tells_memory=tells_memory,
        )


def picture_worker(
    target: str, config: object, settings: ImageServiceSettings, *, env: Mapping[str, str] | None = None
) -> WorkerService:
    """The service around the worker ``target`` (``module:function``), bounded as the settings say; not started."""
    worker = Supervisor(
        target,
        config,
        name="worker",
        max_pending=settings.max_requests,
        start_timeout_s=settings.worker_start_timeout_s,
        hang_timeout_s=settings.worker_hang_timeout_s,
        env={**PASSIVE_THREADS, **(env or {})},
    )
    return WorkerService(worker, timeout_s=settings.request_timeout_s)
