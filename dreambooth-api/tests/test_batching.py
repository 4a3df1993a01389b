"""The order in which waiting images are served, checked on hand-made cases and on random histories."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enlight.dreambooth_api.batching import BatchKey, Slot, SlotQueue

A, B = (BatchKey("tests/tiny", f"{name}@1", 64, 64, 4, guided=True) for name in "ab")


def queue_of(*requests: tuple[int, BatchKey, int], max_batch_images: int = 4, window_s: float = 0.0) -> SlotQueue:
    queue = SlotQueue(max_batch_images=max_batch_images, window_s=window_s)
    for request_id, key, count in requests:
        queue.add(request_id, key, count, now_s=0.0)
    return queue


def test_requests_of_one_key_share_a_batch_in_order_of_arrival() -> None:
    # Given two requests of one model
    queue = queue_of((1, A, 2), (2, A, 3))
    # When batches are taken
    first, second = queue.take(), queue.take()
    # Then the first is full, across both, in order; the second holds the rest
    assert first == (A, [Slot(1, 0), Slot(1, 1), Slot(2, 0), Slot(2, 1)])
    assert second == (A, [Slot(2, 2)])
    assert queue.take() is None


def test_the_oldest_slot_decides_the_key_and_later_ones_of_it_fill_the_batch() -> None:
    # Given a request of B between two of A
    queue = queue_of((1, A, 1), (2, B, 1), (3, A, 1))
    # When batches are taken, then A comes first with both of its requests, B next
    assert queue.take() == (A, [Slot(1, 0), Slot(3, 0)])
    assert queue.take() == (B, [Slot(2, 0)])


def test_a_stream_of_one_key_does_not_starve_another() -> None:
    # Given a large request of A, and B behind it
    queue = queue_of((1, A, 6), (2, B, 1), max_batch_images=4)
    # When A keeps coming while batches run
    keys = []
    for request_id in range(10, 20):
        taken = queue.take()
        assert taken is not None
        keys.append(taken[0])
        queue.add(request_id, A, 4, now_s=0.0)
    # Then B is served as soon as the slots that are older than it are done
    assert keys.index(B) == 2


def test_the_window_waits_for_others_only_while_the_batch_has_room() -> None:
    # Given one image that came at 0 s, and a window of 20 ms
    queue = queue_of((1, A, 1), max_batch_images=2, window_s=0.02)
    # Then its batch waits out the window
    assert queue.delay_s(0.005) == pytest.approx(0.015)
    assert queue.delay_s(0.02) == 0.0
    # When a request of another key comes, then it does not fill this batch
    queue.add(2, B, 2, now_s=0.005)
    assert queue.delay_s(0.005) == pytest.approx(0.015)
    # When a second image of its key comes, then the batch is full and starts at once
    queue.add(3, A, 1, now_s=0.005)
    assert queue.delay_s(0.005) == 0.0


def test_an_empty_queue_has_no_next_batch() -> None:
    queue = queue_of()
    assert queue.delay_s(0.0) is None
    assert queue.next_key() is None
    assert len(queue) == 0


def test_a_cancelled_request_leaves_the_queue() -> None:
    # Given a request of which one batch runs
    queue = queue_of((1, A, 3), (2, A, 1), max_batch_images=2)
    assert queue.take() == (A, [Slot(1, 0), Slot(1, 1)])
    # When it is cancelled, then what waits of it is gone
    assert queue.cancel(1) == 1
    assert queue.cancel(1) == 0
    assert queue.take() == (A, [Slot(2, 0)])


@pytest.mark.parametrize("max_batch_images", [0, -1])
def test_a_batch_has_room_for_an_image(max_batch_images: int) -> None:
    with pytest.raises(ValueError, match="max_batch_images"):
        SlotQueue(max_batch_images=max_batch_images, window_s=0.0)


def test_a_request_is_queued_once_and_is_not_empty() -> None:
    queue = queue_of((1, A, 1))
    with pytest.raises(ValueError, match="queued already"):
        queue.add(1, A, 1, now_s=0.0)
    with pytest.raises(ValueError, match="at least one image"):
        queue.add(2, A, 0, now_s=0.0)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([A, B]), st.integers(1, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 15), st.none()),
        st.tuples(st.just("take"), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(events=EVENTS, max_batch_images=st.integers(1, 6))
def test_every_slot_is_served_once_in_order_and_never_after_its_cancellation(
    events: list[tuple[str, object, object]], max_batch_images: int
) -> None:
    # Given a model of the queue: the waiting slots in order of arrival
    queue = SlotQueue(max_batch_images=max_batch_images, window_s=0.0)
    waiting: list[tuple[BatchKey, Slot]] = []
    served: list[Slot] = []
    added = 0

    def take() -> None:
        taken = queue.take()
        if taken is None:
            assert not waiting
            return
        key, batch = taken
        # Then a batch holds the oldest slots of the oldest slot's key, and no more than the limit
        expected = [slot for slot_key, slot in waiting if slot_key == waiting[0][0]][:max_batch_images]
        assert (key, batch) == (waiting[0][0], expected)
        served.extend(batch)
        waiting[:] = [entry for entry in waiting if entry[1] not in batch]

    # When requests come, are cancelled and are served in any order
    for kind, first, second in events:
        if kind == "add":
            assert isinstance(first, BatchKey)
            assert isinstance(second, int)
            queue.add(added, first, second, now_s=0.0)
            waiting.extend((first, Slot(added, image)) for image in range(second))
            added += 1
        elif kind == "cancel":
            assert isinstance(first, int)
            gone = [entry for entry in waiting if entry[1].request_id == first]
            assert queue.cancel(first) == len(gone)
            waiting[:] = [entry for entry in waiting if entry not in gone]
        else:
            take()
        assert len(queue) == len(waiting)
        assert queue.request_ids() == list(dict.fromkeys(slot.request_id for _, slot in waiting))
    while waiting:
        take()
    # Then nothing was served twice
    assert queue.take() is None
    assert len(served) == len(set(served))
