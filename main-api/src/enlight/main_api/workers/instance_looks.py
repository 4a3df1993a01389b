"""All processes of the services behind, asked side by side; each once in a while, however many want to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from enlight.main_api.workers.background_value import BackgroundValue
from enlight.main_api.workers.instances import Instance, ask, instances_at, unresolved
from enlight.servicekit.service_status import StatusBody

ASK_EVERY_S = 1.5
WAIT_S = 1.0
"""For names, and again for what the processes say. One that was late is not waited for until it is in time again."""


@dataclass(frozen=True)
class SeenInstance:
    """A process, as it was seen last."""

    instance: Instance
    status: StatusBody | None
    """None: it never said anything."""
    is_reachable: bool
    seen_at: datetime | None


class InstanceLooks:
    """Asks when somebody wants to know.

    Args:
        urls: By service: where its processes are.
    """

    def __init__(self, urls: Mapping[str, Sequence[str]]) -> None:
        self._names = {
            (service, url): BackgroundValue(partial(instances_at, service, url), every_s=ASK_EVERY_S)
            for service, given in urls.items()
            for url in given
        }
        self._lock = threading.Lock()
        self._statuses: dict[Instance, BackgroundValue[StatusBody]] = {}

    def seen(self) -> list[SeenInstance]:
        """Every process, within two seconds, not older than three."""
        found = self._instances()
        with self._lock:
            self._statuses = {
                instance: self._statuses.get(instance) or BackgroundValue(partial(ask, instance), every_s=ASK_EVERY_S)
                for instance in found
            }
            statuses = self._statuses
        for status in statuses.values():
            status.begin()
        deadline_s = time.monotonic() + WAIT_S
        return [_seen(instance, status, deadline_s) for instance, status in statuses.items()]

    def _instances(self) -> list[Instance]:
        for name in self._names.values():
            name.begin()
        deadline_s = time.monotonic() + WAIT_S
        found: dict[Instance, None] = {}
        for (service, url), name in self._names.items():
            # A name server that is away does not make the processes go away.
            found |= dict.fromkeys(name.read(deadline_s).value or [unresolved(service, url)])
        return list(found)


def _seen(instance: Instance, status: BackgroundValue[StatusBody], deadline_s: float) -> SeenInstance:
    reading = status.read(deadline_s)
    return SeenInstance(instance, reading.value, reading.is_current, reading.fetched_at)
