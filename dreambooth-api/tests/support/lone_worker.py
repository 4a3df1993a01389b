"""A worker for one job, as a process that a test can pause and kill: ``python -m lone_worker <job id> [alias]``.

With ``alias`` it stops itself (SIGSTOP) between the commit of its version and the change of the model's alias.
"""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from enlight.dreambooth_api.attempt_versions import AttemptVersions
from enlight.dreambooth_api.worker_job import stop_signals, work_on
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.settings import load_settings

SCRIPTED_TRAINER = "scripted_trainer:main"


def main(job_id: str, pause_at: str = "") -> None:
    """Works on the job with the scripted trainer."""
    configure_logging("lone-worker")
    make_current = AttemptVersions.make_current

    def pause_and_make_current(self: AttemptVersions, version: str) -> None:
        if pause_at == "alias":
            os.kill(os.getpid(), signal.SIGSTOP)
        make_current(self, version)

    with mock.patch.object(AttemptVersions, "make_current", pause_and_make_current), stop_signals() as closing:
        work_on(job_id, load_settings(WorkerSettings), closing, trainer=SCRIPTED_TRAINER)


if __name__ == "__main__":
    main(*sys.argv[1:])
