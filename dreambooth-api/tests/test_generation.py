"""A generation's life: admitted, started, pictures, one answer."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from enlight.dreambooth_api.admission import Admitted
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.requests import Base, GenerationRequest
from enlight.servicekit.child import Task

KEY = BatchKey("org/base", None, 64, 64, 4, guided=True)
BASE = Base("org/base", None, Path("/nowhere"), 64, 4, 32, 128)


def generation(count: int = 2) -> Generation:
    request = GenerationRequest("org/base", "a dog", "", count, 5, None, None, None, 7.5, "png")
    return Generation(Task(1, request), request, arrived_s=0.0)


def admitted() -> tuple[Admitted, list[str]]:
    """With a list that tells when the model's files were let go."""
    closed: list[str] = []
    lease = ExitStack()
    lease.callback(closed.append, "closed")
    return Admitted(BASE, None, KEY, lease), closed


def test_the_last_picture_completes_it_whatever_the_order() -> None:
    # Given a generation of two pictures that runs in batches of 1 and 3
    one = generation()
    settled, closed = admitted()
    assert one.admit(settled)
    one.start("disk", "DDIMScheduler")
    one.start("resident", "DDIMScheduler")
    one.denoised(batch_images=3)
    one.denoised(batch_images=1)
    # When the pictures are encoded, the second first
    assert not one.add_image(1, b"second")
    assert one.add_image(0, b"first")
    # Then the answer has them in order, with the first batch's tier and the largest batch
    result = one.result()
    assert result.images == (b"first", b"second")
    assert (result.cache_tier, result.batch_images, result.steps, result.seed) == ("disk", 3, 4, 5)
    assert result.queued_s > 0
    # And one caller answers
    assert [one.close(), one.close()] == [True, False]
    assert closed == ["closed"]
    assert one.closed


def test_progress_counts_finished_pictures() -> None:
    one = generation(count=3)
    assert (one.progress(2, 4).images_done, one.progress(2, 4).step) == (0, 2)
    one.denoised(batch_images=1)
    assert (one.progress(1, 4).images_done, one.progress(1, 4).images) == (1, 3)


def test_files_that_arrive_too_late_are_let_go_at_once() -> None:
    # Given a generation that was cancelled while its model was fetched
    one = generation()
    assert one.close()
    settled, closed = admitted()
    # When the model arrives
    assert not one.admit(settled)
    # Then nothing holds it
    assert closed == ["closed"]


def test_each_picture_has_its_own_seed() -> None:
    one = generation()
    assert [Row(one, image).seed for image in range(2)] == [5, 6]
