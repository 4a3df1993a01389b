from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from enlight.models.run_record import (
    Clock,
    LossRecord,
    learning_rate_share,
    load_weights,
    read_state,
    save_weights,
    timed_steps,
    write_state,
)


class _FrozenClock(Clock):
    """A clock at a fixed share of its limit."""

    def __init__(self, share: float) -> None:
        super().__init__(limit_s=100.0)
        self._share = share

    @property
    def elapsed_s(self) -> float:
        return 100.0 * self._share


@pytest.mark.parametrize(
    ("clock_share", "step", "expected"),
    [(0.1, 0, 0.1), (0.1, 9, 1.0), (0.5, 500, 1.0), (0.85, 500, 0.5), (1.0, 500, 0.02)],
)
def test_learning_rate_warms_up_in_steps_and_decays_in_time(clock_share: float, step: int, expected: float) -> None:
    assert learning_rate_share(_FrozenClock(clock_share), step, 10, 0.3) == pytest.approx(expected)


def test_steps_go_on_from_the_first_until_the_clock_is_over() -> None:
    # Given a clock that is over at once / When steps are numbered
    steps = list(timed_steps(7, Clock(limit_s=0.0)))
    # Then there is one step, and it is told to be the last
    assert steps == [(7, True)]
    assert all(not last for _, last in zip(range(3), (last for _, last in timed_steps(0, Clock(1000.0))), strict=False))


def test_loss_record_is_continued(tmp_path: Path) -> None:
    # Given a record of one run / When another run adds to it
    LossRecord(tmp_path / "loss.csv").add(step=1, loss=0.5)
    LossRecord(tmp_path / "loss.csv").add(step=2, loss=0.25)
    # Then there is one header and both rows
    assert (tmp_path / "loss.csv").read_text().splitlines() == ["step,loss", "1,0.5", "2,0.25"]


def test_weights_and_state_round_trip(tmp_path: Path) -> None:
    # Given a module whose weights fp16 holds exactly
    module, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    with torch.no_grad():
        module.weight.fill_(0.5)
    # When it is saved and read
    save_weights(tmp_path / "w.safetensors", module, torch.float16)
    write_state(tmp_path / "s.json", steps=3, seconds=1.5)
    # Then the values are back, in the reader's own types
    assert load_weights(tmp_path / "w.safetensors", other)
    assert other.weight.dtype == torch.float32
    assert other.num_batches_tracked is not None
    assert other.num_batches_tracked.dtype == torch.int64
    assert torch.equal(other.weight, module.weight)
    assert read_state(tmp_path / "s.json") == {"steps": 3.0, "seconds": 1.5}
    assert not load_weights(tmp_path / "none.safetensors", other)
    assert read_state(tmp_path / "none.json") == {}


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", nn.Linear(2, 3), torch.float16)
    with pytest.raises(RuntimeError):
        load_weights(tmp_path / "w.safetensors", nn.Linear(3, 3))
