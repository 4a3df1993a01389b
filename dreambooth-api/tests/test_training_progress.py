from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_training import RecordingChannel
from torch.overrides import TorchFunctionMode

from enlight.dreambooth_api.training_progress import ProgressReporter, raise_if_unwanted
from enlight.servicekit.errors import Cancelled, JobFailed, WorkerUnavailable


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _reporter(channel: RecordingChannel, clock: Callable[[], float], every_s: float = 10) -> ProgressReporter:
    return ProgressReporter(channel, device=torch.device("cpu"), every_s=every_s, clock=clock)


def _update(reporter: ProgressReporter, step: int, loss: float, steps: int = 100) -> None:
    reporter.update(step, steps, torch.tensor(loss), 0.01)


def test_the_first_and_the_last_update_are_told_and_others_by_the_clock() -> None:
    # Given a reporter that may speak every ten seconds
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)
    reporter.begin_training(0, 6)

    # When six updates take four seconds each
    for step in range(1, 7):
        clock.now_s += 4
        _update(reporter, step, loss=float(step), steps=6)

    # Then the beginning, the first, one after ten seconds, and the last are told
    assert [(sent.phase, sent.step) for sent in channel.sent] == [
        ("training", 0),
        ("training", 1),
        ("training", 4),
        ("training", 6),
    ]


def test_the_loss_is_the_mean_since_the_last_message() -> None:
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)
    for step, loss in enumerate([8.0, 1.0, 2.0, 6.0], start=1):
        if step == 4:
            clock.now_s += 10
        _update(reporter, step, loss)
    assert [sent.loss for sent in channel.sent] == [8.0, 3.0]
    assert channel.sent[-1].learning_rate == 0.01


class CountReads(TorchFunctionMode):
    """Counts how often a tensor's value is read into Python, which makes a GPU's program wait."""

    reads = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__float__, torch.Tensor.__bool__):
            self.reads += 1
        return func(*args, **(kwargs or {}))


def test_the_loss_is_not_read_between_messages() -> None:
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)

    # When many updates are done within the time of one message
    with CountReads() as count:
        for step in range(1, 90):
            _update(reporter, step, 1.0)

    # Then only the first was read
    assert len(channel.sent) == 1
    assert count.reads == 1


def test_speed_and_remaining_time_leave_out_the_first_update() -> None:
    # Given a first update of 60 s, which warms up, and then one every 2 s
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)
    reporter.begin_training(40, 100)
    clock.now_s += 60
    _update(reporter, 41, 1.0)
    for step in range(42, 52):
        clock.now_s += 2
        _update(reporter, step, 1.0)

    # Then the speed is one update per 2 s
    last = channel.sent[-1]
    assert channel.sent[1].steps_per_s is None
    assert last.steps_per_s == pytest.approx(0.5)
    assert last.remaining_s == pytest.approx((100 - last.step) * 2)
    assert last.resumed_from_step == 40
    assert last.peak_memory_bytes is not None
    assert last.peak_memory_bytes > 1 << 20


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_diverged_training_ends_when_it_is_seen(loss: float) -> None:
    # Given a loss that is no number, between two messages, and good ones after it
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)
    for step, value in enumerate([1.0, loss, 1.0, 1.0], start=1):
        _update(reporter, step, value)

    # When the next message is due, then it fails instead
    clock.now_s += 10
    with pytest.raises(JobFailed, match="diverged"):
        _update(reporter, 5, 1.0)
    assert all(sent.loss is None or math.isfinite(sent.loss) for sent in channel.sent)


def test_phases_are_told_at_their_begin_and_end() -> None:
    channel, clock = RecordingChannel(), Clock()
    reporter = _reporter(channel, clock)
    reporter.phase("loading", 0, 100)
    for photo in range(1, 6):
        reporter.phase("photos", photo, 5)
    assert [(sent.phase, sent.step) for sent in channel.sent] == [("loading", 0), ("photos", 5)]


def test_an_unwanted_job_stops() -> None:
    channel = RecordingChannel()
    raise_if_unwanted(channel)
    channel.closing = True
    with pytest.raises(WorkerUnavailable):
        raise_if_unwanted(channel)
    channel.cancel = True
    with pytest.raises(Cancelled):
        raise_if_unwanted(channel)
