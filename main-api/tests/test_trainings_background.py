"""Work beside the requests."""

from __future__ import annotations

import logging
import threading

import pytest
from waiting import wait_until

from enlight.main_api.background import Repeating


def test_work_goes_on_after_errors_which_are_logged_once_per_kind(caplog: pytest.LogCaptureFixture) -> None:
    rounds: list[int] = []

    def work() -> None:
        rounds.append(1)
        if len(rounds) <= 3:
            raise ValueError("three times")
        if len(rounds) == 4:
            raise KeyError("another")
        if len(rounds) == 6:
            raise KeyError("again, after a good round")

    repeating = Repeating(work, every_s=0.001, name="the work")
    with caplog.at_level(logging.WARNING):
        repeating.start()
        assert wait_until(lambda: len(rounds) > 8)
        repeating.stop()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["the work"] * 3


def test_a_stop_ends_the_pause_and_waits_for_the_round_in_progress() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    repeating = Repeating(work, every_s=0.001, name="slow")
    repeating.start()
    assert begun.wait(10)
    repeating.ask_to_stop()
    may_end.set()
    repeating.stop()
    assert ended.is_set()
    # One that pauses for long stops at once, one that was never begun as well
    pausing = Repeating(work, every_s=1000, name="pausing")
    pausing.start()
    pausing.stop()
    Repeating(work, every_s=1, name="never").stop()
