"""OpenAI's stock SDK on the whole suite: photos up, a training followed to its end, pictures of its model, and away."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from local_suite import BASE_MODEL, ROOT, LocalSuite
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from similarity import SubjectSimilarity
from waiting import wait_until

PHOTOS = sorted((ROOT / "demo/photos").glob("*.png"))
PROMPT = "a sks robot"
PICTURES = 4
MUCH_CLOSER = 0.15
"""Of the cosine similarity to the photos: what a base model's picture of any robot has less."""
LONG_S, LOOK_EVERY_S = 500.0, 0.5


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("openai-training")
    with LocalSuite(folder / "data", folder, services=("dreambooth-api",)) as running:
        yield running


@pytest.fixture(scope="module")
def client(suite: LocalSuite) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{suite.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def file_id(client: OpenAI) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for photo in PHOTOS:
            archive.write(photo, f"robot/{photo.name}")
    return client.files.create(file=("robot.zip", packed.getvalue()), purpose="fine-tune").id


def follow(client: OpenAI, job: FineTuningJob) -> tuple[FineTuningJob, dict[str, FineTuningJobEvent]]:
    """The job at its end, and its events as somebody sees them who looks again and again."""
    seen: dict[str, FineTuningJobEvent] = {}

    def has_ended() -> bool:
        nonlocal job
        time.sleep(LOOK_EVERY_S)
        job = client.fine_tuning.jobs.retrieve(job.id)
        seen.update({event.id: event for event in client.fine_tuning.jobs.list_events(job.id, limit=1000).data})
        return job.status in ("succeeded", "failed", "cancelled")

    assert wait_until(has_ended, timeout_s=LONG_S), job
    return job, seen


def pictures(client: OpenAI, model: str) -> list[bytes]:
    made = client.images.generate(
        model=model, prompt=f"{PROMPT} on the beach", n=PICTURES, size="64x64", extra_body={"seed": 1}
    )
    assert made.data is not None
    return [base64.b64decode(picture.b64_json or "") for picture in made.data]


@pytest.mark.timeout(600)
def test_a_model_is_trained_generates_and_goes(client: OpenAI, file_id: str, tmp_path: Path) -> None:
    # Given photos of a subject, uploaded, and what the base makes of its words
    before = pictures(client, BASE_MODEL)
    # When a model is trained on them and followed to its end
    started = client.fine_tuning.jobs.create(
        training_file=file_id,
        model=BASE_MODEL,
        suffix="openai-robot",
        seed=1,
        metadata={"instance_prompt": PROMPT, "sample_prompt": f"{PROMPT} in the snow"},
    )
    client.files.delete(file_id)  # a training has its photos
    job, seen = follow(client, started)
    # Then it has succeeded, and its events told the way there
    assert (job.status, job.fine_tuned_model) == ("succeeded", "openai-robot"), job.error
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=30))[::-1]
    messages = [event.message for event in events]
    assert messages[0] == "Accepted; waits for a worker."
    assert messages[-1] == "Succeeded."
    metrics = [event for event in events if event.type == "metrics"]
    assert len(metrics) > 5
    assert metrics[-1].message.startswith("Step 100/100: training loss=")
    assert any(event.level == "info" and event.type == "message" for event in events[1:-1])
    # And nothing that was seen on the way has another id at the end
    assert {event_id: event.message for event_id, event in seen.items() if event.type == "message"}.items() <= {
        event.id: event.message for event in events
    }.items()
    # And the model generates what the photos show
    assert job.fine_tuned_model is not None
    after = pictures(client, job.fine_tuned_model)
    for number, picture in enumerate([*before, *after]):
        (tmp_path / f"{number}.png").write_bytes(picture)
    judge = SubjectSimilarity(ROOT / "models/judge", [photo.read_bytes() for photo in PHOTOS])
    assert judge.mean(after) > judge.mean(before) + MUCH_CLOSER
    # And when it is removed it generates no more
    assert client.models.retrieve("openai-robot").id == "openai-robot"
    assert client.models.delete("openai-robot").deleted
    with pytest.raises(openai.NotFoundError):
        pictures(client, "openai-robot")


@pytest.mark.timeout(600)
def test_a_running_job_is_cancelled_and_leaves_no_model(client: OpenAI) -> None:
    # Given a long training that has begun
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(PHOTOS[0], "robot.png")
    uploaded = client.files.create(file=("one.zip", packed.getvalue()), purpose="fine-tune")
    started = client.fine_tuning.jobs.create(
        training_file=uploaded.id,
        model=BASE_MODEL,
        suffix="never",
        metadata={"instance_prompt": PROMPT, "max_training_steps": "100000"},
    )

    def is_on_its_way() -> bool:
        time.sleep(LOOK_EVERY_S)
        job = client.fine_tuning.jobs.retrieve(started.id)
        events = client.fine_tuning.jobs.list_events(started.id, limit=1000)
        return job.estimated_finish is not None and any(event.type == "metrics" for event in events.data)

    assert wait_until(is_on_its_way, timeout_s=LONG_S)
    running = client.fine_tuning.jobs.retrieve(started.id)
    assert (running.status, running.fine_tuned_model) == ("running", None)
    # When it is cancelled
    client.fine_tuning.jobs.cancel(started.id)
    # Then it ends, and there is no model
    job, _ = follow(client, started)
    assert (job.status, job.fine_tuned_model, job.error) == ("cancelled", None, None)
    assert client.fine_tuning.jobs.list_events(job.id).data[0].message == "Cancelled."
    with pytest.raises(openai.NotFoundError):
        pictures(client, "never")
