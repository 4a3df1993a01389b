from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from diffusers.optimization import SchedulerType, get_scheduler

from enlight.dreambooth_api.lr_schedules import LR_SCHEDULERS, POLYNOMIAL_END_LR, learning_rate_at


@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
@pytest.mark.parametrize("name", LR_SCHEDULERS)
def test_every_schedule_is_that_of_diffusers(name: str, warmup_steps: int) -> None:
    # Given diffusers' schedule
    base_lr, steps = 3e-4, 11
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
    schedule: Any = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps)

    for step in range(steps):
        # When the learning rate of an update is asked
        ours = learning_rate_at(step, name=name, base_lr=base_lr, warmup_steps=warmup_steps, steps=steps)

        # Then it is the same
        assert ours == pytest.approx(schedule.get_last_lr()[0], rel=1e-12, abs=1e-20)
        optimizer.step()
        schedule.step()


def test_every_name_that_needs_no_further_arguments_is_there() -> None:
    assert set(LR_SCHEDULERS) == {kind.value for kind in SchedulerType} - {"piecewise_constant"}


def test_a_warmup_longer_than_the_training_never_divides_by_zero() -> None:
    for name in LR_SCHEDULERS:
        rates = [learning_rate_at(i, name=name, base_lr=1.0, warmup_steps=5, steps=5) for i in range(7)]
        assert all(0 <= rate <= 1 for rate in rates)


def test_polynomial_ends_where_it_says() -> None:
    rate = learning_rate_at(10, name="polynomial", base_lr=1e-3, warmup_steps=0, steps=10)
    assert rate == pytest.approx(POLYNOMIAL_END_LR)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="piecewise_constant"):
        learning_rate_at(0, name="piecewise_constant", base_lr=1.0, warmup_steps=0, steps=1)


def test_names_can_be_read_without_torch() -> None:
    code = "import enlight.dreambooth_api.lr_schedules, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
