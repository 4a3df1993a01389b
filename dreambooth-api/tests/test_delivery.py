"""From pixels to the answer, over a real channel whose other end is here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from enlight.dreambooth_api.admission import Admitted
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.delivery import Delivery
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.requests import Base, GenerationRequest, GenerationResult, ImageFormat
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.errors import NotFound, WireError
from enlight.servicekit.frames import Frame, FrameConnection, Kind, TaskBody, pack

BASE = Base("org/base", None, Path("/nowhere"), 64, 4, 32, 128)
KEY = BatchKey("org/base", None, 32, 16, 4, guided=True)


class Parent:
    """The parent's end of a channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection = FrameConnection(Connection(ours.detach()))
        self.gone = threading.Event()
        self.channel = ChildChannel(FrameConnection(Connection(theirs.detach())), on_parent_gone=self.gone.set)

    def generation(self, task_id: int, *, count: int = 1, image_format: ImageFormat = "png") -> Generation:
        """A task that the child received."""
        request = GenerationRequest("org/base", "a dog", "", count, 5, None, None, None, 7.5, image_format)
        self.connection.send(Frame(Kind.TASK, task_id, pack(TaskBody(request, "", ""))))
        task = self.channel.receive(5)
        assert task is not None
        generation = Generation(task, request, arrived_s=0.0)
        generation.admit(Admitted(BASE, None, KEY, ExitStack()))
        generation.start("resident", "DDIMScheduler")
        return generation


@pytest.fixture
def parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.connection.close()
    assert parent.gone.wait(5)


@pytest.fixture
def delivery(parent: Parent) -> Iterator[Delivery]:
    delivery = Delivery(parent.channel, encoder_threads=2)
    yield delivery
    delivery.stop()


def gradient(seed: int) -> NDArray[np.uint8]:
    """A smooth picture (16, 32, 3)."""
    rows, columns = np.mgrid[0:16, 0:32]
    return np.stack([rows * 8, columns * 4, np.full_like(rows, 40 * seed)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("image_format", "tolerance", "magic"), [("png", 0, b"\x89PNG"), ("jpeg", 12, b"\xff\xd8"), ("webp", 24, b"RIFF")]
)
def test_pictures_of_several_requests_come_back_to_their_own(
    parent: Parent, delivery: Delivery, image_format: ImageFormat, tolerance: int, magic: bytes
) -> None:
    # Given two requests, one of two pictures
    one, two = (parent.generation(task_id, count=task_id, image_format=image_format) for task_id in (1, 2))
    rows = [Row(one, 0), Row(two, 0), Row(two, 1)]
    # When a batch with all of them is delivered
    delivery.deliver(rows, np.stack([gradient(seed) for seed in range(3)]), batch_images=3)
    # Then each request is answered with its own, in order
    results = {}
    for _ in range(2):
        frame = parent.connection.receive()
        assert frame.kind is Kind.RESULT
        result = frame.payload()
        assert isinstance(result, GenerationResult)
        results[frame.task_id] = result
    for task_id, seeds in ((1, [0]), (2, [1, 2])):
        assert results[task_id].batch_images == 3
        assert all(image.startswith(magic) for image in results[task_id].images)
        for image, seed in zip(results[task_id].images, seeds, strict=True):
            decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
            assert decoded is not None
            difference = np.abs(decoded[:, :, ::-1].astype(int) - gradient(seed).astype(int))
            assert difference.max() <= tolerance


def test_a_failure_is_answered_once(parent: Parent, delivery: Delivery) -> None:
    one = parent.generation(1)
    delivery.fail(one, NotFound("nothing"))
    delivery.fail(one, NotFound("nothing again"))
    delivery.deliver([Row(one, 0)], gradient(0)[None], batch_images=1)
    frame = parent.connection.receive()
    wire = frame.payload()
    assert isinstance(wire, WireError)
    assert (frame.kind, wire.message) == (Kind.FAIL, "nothing")
    # Nothing follows: the next message is about another task
    two = parent.generation(2)
    delivery.deliver([Row(two, 0)], gradient(0)[None], batch_images=1)
    assert parent.connection.receive().task_id == 2


def test_a_picture_that_cannot_be_encoded_fails_its_request(parent: Parent, delivery: Delivery) -> None:
    one = parent.generation(1)
    delivery.deliver([Row(one, 0)], np.zeros((1, 16, 32, 2), np.uint8), batch_images=1)
    frame = parent.connection.receive()
    wire = frame.payload()
    assert isinstance(wire, WireError)
    assert (frame.kind, wire.code) == (Kind.FAIL, "internal_error")
    assert one.closed
