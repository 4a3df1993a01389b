from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_samples import training_request

from enlight.dreambooth_api.requests import TrainingOutcome
from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_jobs import TrainingJob, new_job_id
from enlight.servicekit.errors import InvalidRequest, QueueFull


def ended_job() -> TrainingJob:
    job = TrainingJob(new_job_id(), fingerprint="f", request=training_request(), folder=Path("x"), detached=True)
    job.start_attempt()
    job.succeed(TrainingOutcome("chair", "v1", 4, 0, 0.1, 1.0, 2.0, None, 10))
    return job


def test_events_have_the_form_of_the_standard_and_their_ids_go_up() -> None:
    text = b"".join(EventStreams(1).open(ended_job(), None)).decode()
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\n\n") if block]
    assert [event["id"] for event in events] == ["1", "2", "3"]
    assert {event["event"] for event in events} == {"state"}
    assert json.loads(events[-1]["data"])["model_version"] == "v1"


def test_a_stream_goes_on_after_the_last_event_that_was_seen() -> None:
    text = b"".join(EventStreams(1).open(ended_job(), "2")).decode()
    assert text.startswith("id: 3\n")


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1.5", "٣", "9" * 20])
def test_a_foreign_last_event_id_is_refused_and_takes_no_place(last_event_id: str) -> None:
    streams = EventStreams(1)
    with pytest.raises(InvalidRequest):
        streams.open(ended_job(), last_event_id)
    streams.open(ended_job(), None)


def test_open_streams_are_bounded_and_give_their_place_back_however_they_end() -> None:
    streams = EventStreams(1)
    first = streams.open(ended_job(), None)
    with pytest.raises(QueueFull):
        streams.open(ended_job(), None)
    # A client that leaves before the first byte: the server closes the response
    first.close()  # type: ignore[attr-defined]
    second = streams.open(ended_job(), None)
    list(second)
    second.close()  # type: ignore[attr-defined]
    list(streams.open(ended_job(), None))
