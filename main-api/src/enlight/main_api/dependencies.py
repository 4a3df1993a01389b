"""What the gateway depends on, looked at in the background: a request for the state never waits for any of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from enlight.main_api.background import Repeating

TICK_S = 0.2


class DependencyWatch:
    """Looks at each dependency every few seconds.

    Args:
        checks: By name; each gives what there is to say, or raises, within seconds.
        every_s: Time between two rounds; the first comes at once.
    """

    def __init__(self, checks: Mapping[str, Callable[[], object]], *, every_s: float) -> None:
        self._checks = dict(checks)
        self._every_s = every_s
        self._next_s = 0.0
        self._seen: dict[str, object] = dict.fromkeys(self._checks, "unknown")
        self._thread = Repeating(self._round, every_s=min(TICK_S, every_s), name="dependencies")

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the looking."""
        self._thread.stop()

    @property
    def seen(self) -> Mapping[str, object]:
        """What each check gave last; ``unknown`` before the first look, ``away`` after one that failed."""
        return dict(self._seen)

    def _round(self) -> None:
        if time.monotonic() < self._next_s:
            return
        for name, check in self._checks.items():
            self._seen[name] = _result(check)
        self._next_s = time.monotonic() + self._every_s


def _result(check: Callable[[], object]) -> object:
    try:
        return check()
    except Exception:  # noqa: BLE001 -- whatever a client library raises, its server is not there
        return "away"
