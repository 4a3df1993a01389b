"""Reading ahead: one model at a time, errors left to whoever needs the model."""

from __future__ import annotations

import threading
import time

from enlight.dreambooth_api.fine_tune import FineTune
from enlight.dreambooth_api.prefetch import Prefetcher
from enlight.servicekit.errors import CorruptModel


def fine_tune(version: str) -> FineTune:
    return FineTune(version, "org/base", None, {}, {})


def test_what_was_wanted_is_there_once() -> None:
    prefetcher = Prefetcher()
    prefetcher.want("a@1", lambda: fine_tune("a@1"))
    assert prefetcher.take("b@1") is None
    taken = prefetcher.take("a@1")
    assert taken is not None
    assert taken.version == "a@1"
    assert prefetcher.take("a@1") is None


def test_taking_waits_for_the_rest_of_the_reading() -> None:
    # Given a reading that has not ended
    go_on = threading.Event()

    def read() -> FineTune:
        assert go_on.wait(10)
        return fine_tune("a@1")

    prefetcher = Prefetcher()
    prefetcher.want("a@1", read)
    # When another model is wanted meanwhile, then it is not read beside it
    prefetcher.want("b@1", lambda: fine_tune("b@1"))
    # When the first is taken, then it is waited for
    threading.Timer(0.05, go_on.set).start()
    assert prefetcher.take("a@1") is not None
    assert prefetcher.take("b@1") is None


def test_a_newer_wish_replaces_what_nobody_took() -> None:
    # Given a model that was read and that nobody took
    prefetcher = Prefetcher()
    prefetcher.want("a@1", lambda: fine_tune("a@1"))
    while prefetcher.running:
        time.sleep(0.001)
    # When another one is wanted, then only that is held
    prefetcher.want("b@1", lambda: fine_tune("b@1"))
    assert prefetcher.take("a@1") is None
    assert prefetcher.take("b@1") is not None


def test_a_model_that_cannot_be_read_ahead_is_none() -> None:
    def read() -> FineTune:
        raise CorruptModel("broken")

    prefetcher = Prefetcher()
    prefetcher.want("a@1", read)
    assert prefetcher.take("a@1") is None


def test_stopping_waits_for_the_reading() -> None:
    ended = threading.Event()

    def read() -> FineTune:
        ended.wait(0.1)
        ended.set()
        return fine_tune("a@1")

    prefetcher = Prefetcher()
    prefetcher.want("a@1", read)
    prefetcher.stop(10)
    assert ended.is_set()
    assert prefetcher.take("a@1") is None
