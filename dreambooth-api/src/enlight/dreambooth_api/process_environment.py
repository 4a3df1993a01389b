"""Environment of the engine's and the trainers' processes."""

from __future__ import annotations

from collections.abc import Mapping

# On a CPU engine and trainers share the cores. OpenMP threads spin while they wait for each other, which takes
# the core from the thread that is waited for; benchmarks/concurrent_sampling.py shows how much.
PROCESS_ENVIRONMENT: Mapping[str, str] = {"OMP_WAIT_POLICY": "PASSIVE"}
