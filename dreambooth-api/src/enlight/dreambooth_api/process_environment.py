"""Environment of the engine's and the trainers' processes."""

from __future__ import annotations

from collections.abc import Mapping

# On a CPU engine and trainers share the cores. OpenMP threads spin while they wait for each other, which takes
# the core from the thread that is waited for: three samplings side by side on two cores took 22 s spinning and 4 s when
# waiting passively, one alone 1.3 s and 1.8 s.
PROCESS_ENVIRONMENT: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE"}
