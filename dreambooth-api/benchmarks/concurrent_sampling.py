"""Samplings side by side on a CPU, OpenMP's threads spinning (the default) against waiting passively.

``python dreambooth-api/benchmarks/concurrent_sampling.py`` (two to three minutes on 2 cores): the engine and the
trainers of one machine share its cores in the same way.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from enlight.dreambooth_api.process_environment import PROCESS_ENVIRONMENT
from enlight.servicekit.settings import child_environment

ROOT = Path(__file__).resolve().parents[2]
POLICIES = {"spinning": {"OMP_WAIT_POLICY": "ACTIVE"}, "passive": dict(PROCESS_ENVIRONMENT)}


def sample_once() -> float:
    """Seconds for four pictures of 15 steps with the pocket base, the load of the model not counted."""
    import torch

    from enlight.dreambooth_api.pipelines import StableDiffusion
    from enlight.dreambooth_api.pure.inference import sample

    base = StableDiffusion.load(ROOT / "models" / "pocket", device=torch.device("cpu"), weights_dtype=torch.float32)
    with torch.inference_mode():
        sample(base, ["a cat"], seeds=[0], steps=2, guidance_scales=5.0, width_px=64, height_px=64)
        began = time.perf_counter()
        sample(base, ["a cat"] * 4, seeds=[0, 1, 2, 3], steps=15, guidance_scales=5.0, width_px=64, height_px=64)
    return time.perf_counter() - began


def main() -> None:
    """Prints the slowest of one, two and three samplings side by side, for each policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().worker:
        print(sample_once())
        return
    print(f"{'side by side':>12} " + " ".join(f"{policy:>10}" for policy in POLICIES))
    for count in (1, 2, 3):
        slowest = []
        for settings in POLICIES.values():
            workers = [
                subprocess.Popen(
                    [sys.executable, __file__, "--worker"], env=child_environment(settings), stdout=subprocess.PIPE
                )
                for _ in range(count)
            ]
            slowest.append(max(float(worker.communicate()[0]) for worker in workers))
        print(f"{count:>12} " + " ".join(f"{seconds:>9.1f}s" for seconds in slowest), flush=True)


if __name__ == "__main__":
    main()
