"""A picture that is alone gets all cores, pictures beside each other get one each, and the answers are the same."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bgrem_samples import file_of, photo, pixels_of

from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.requests import CutoutRequest
from enlight.bgrem.settings import Settings
from enlight.bgrem.worker import Worker
from enlight.servicekit.measurements import unmeasured

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "bgrem"


class Task:
    """As much of a running task as a handler uses; ``check`` waits for its partners, so that both are in work."""

    def __init__(self, payload: CutoutRequest, partners: threading.Barrier | None = None) -> None:
        self.payload = payload
        self._partners = partners
        self.stage = unmeasured

    def check(self) -> None:
        if self._partners is not None:
            partners, self._partners = self._partners, None
            partners.wait(60)


@pytest.mark.skipif(not (WEIGHTS / "u2netp.onnx").is_file(), reason="u2netp.onnx: run dev-scripts/fetch-weights")
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_threads_are_for_pictures_that_are_alone(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    cut_out = Cutouts.cut_out

    def noted(self: Cutouts, *arguments: Any) -> Any:
        used.append(self._strips.threads)
        return cut_out(self, *arguments)

    monkeypatch.setattr(Cutouts, "cut_out", noted)
    settings = Settings(weights_folder=WEIGHTS, device="cpu", cpu_threads=3, cpu_engine=engine)
    worker = Worker(settings.worker_config())
    request = CutoutRequest(file_of(photo("astronaut", 300, 200)), "photo", "u2netp")

    def run(partners: threading.Barrier | None = None) -> bytes:
        result: Any = worker.handle(Task(request, partners))  # type: ignore[arg-type]
        data: bytes = result.data
        return data

    alone = run()
    partners = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(run, [partners, partners]))
    again = run()
    assert used[0] == used[3] == 3
    assert sorted(used[1:3]) == [1, 3]
    assert worker.state()["pictures_total"] == 4
    assert worker.state()["engines"] == {"u2netp": "mnn" if engine == "auto" else "onnxruntime"}
    for answer in (*beside, again):
        assert np.array_equal(pixels_of(answer), pixels_of(alone))
