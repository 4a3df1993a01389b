"""`/v1/fine_tuning/jobs` as OpenAI's own SDK asks for it, of a gateway that listens; a test is the worker."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from gateways import Surroundings, opened, surroundings
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai_gateway import Listening, listening_gateway
from photo_zips import PHOTOS, zip_of, zip_of_photos
from training_gateway import training_body

from enlight.jobkit.job_histories import JobHistories, LogLine
from enlight.jobkit.jobs import Job
from enlight.main_api.stores import Stores

POCKET = "enlight/pocket"
PROMPT = {"instance_prompt": "a sks robot"}
PRESET = {"max_training_steps": 100, "learning_rate": 0.0002, "train_batch_size": 6, "train_text_encoder": True}
"""What the pocket base recommends."""


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("openai-fine-tuning")) as servers:
        yield servers


@dataclass
class Worker:
    """What a worker does with a job."""

    stores: Stores
    histories: JobHistories

    def claim(self, job_id: str) -> Job:
        job = self.stores.jobs.claim(job_id, "test-worker")
        assert job is not None
        self.histories.begin(job_id, job.attempt)
        return job

    def tell(self, job: Job, *messages: str, level: Any = "info") -> None:
        lines = [LogLine(datetime.now(UTC), level, job.attempt, message) for message in messages]
        self.histories.add_lines(job.id, f"{job.attempt}.{time.monotonic_ns()}", lines)

    def succeed(self, job: Job) -> None:
        self.stores.jobs.commit(job.id, job.attempt, "v1")
        self.stores.jobs.succeed(job.id, job.attempt, {"version": "v1"})


@pytest.fixture(scope="module")
def listening(around: Surroundings) -> Iterator[Listening]:
    with listening_gateway(around, max_queued_trainings=1000) as running:
        yield running


@pytest.fixture(scope="module")
def client(listening: Listening) -> Iterator[OpenAI]:
    with listening.client() as client:
        yield client


@pytest.fixture(scope="module")
def worker(listening: Listening) -> Iterator[Worker]:
    with opened(listening.settings) as stores:
        yield Worker(stores, JobHistories(stores.database))


@pytest.fixture(scope="module")
def file_id(client: OpenAI) -> str:
    """Three photos."""
    return upload(client)


def upload(client: OpenAI, data: bytes = b"") -> str:
    return client.files.create(file=("photos.zip", data or zip_of_photos()), purpose="fine-tune").id


def create(client: OpenAI, file_id: str, **options: Any) -> FineTuningJob:
    given = {"model": POCKET, "training_file": file_id, "metadata": PROMPT, **options}
    return client.fine_tuning.jobs.create(**given)


def parameters(listening: Listening, job: FineTuningJob) -> dict[str, Any]:
    """What is trained with, as `/v1/trainings` says."""
    told: dict[str, Any] = listening.ask("GET", f"/v1/trainings/{job.id}").json()
    return {**told["parameters"]} | {name: told[name] for name in ("model_id", "base_model", "preset")}


# Starting


def test_a_job_is_a_training_of_the_file_s_photos(client: OpenAI, listening: Listening, worker: Worker) -> None:
    # Given a ZIP with folders and with what file managers add
    packed = zip_of({"photos/": b"", "photos/.DS_Store": b"\0", **{f"photos/{name}": PHOTOS[name] for name in PHOTOS}})
    file_id = upload(client, packed)
    # When a job is made of it
    job = create(client, file_id, suffix="my-robot", seed=7, metadata={**PROMPT, "project": "x"})
    # Then it is what OpenAI's clients expect
    expected = {
        "object": "fine_tuning.job",
        "status": "queued",
        "model": POCKET,
        "training_file": file_id,
        "seed": 7,
        "metadata": {**PROMPT, "project": "x"},
        "organization_id": "anna",
        "fine_tuned_model": None,
        "finished_at": None,
        "estimated_finish": None,
        "error": None,
        "result_files": [],
        "integrations": [],
        "validation_file": None,
        "trained_tokens": None,
    }
    told = job.model_dump()
    assert {name: told[name] for name in expected} == expected
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert told["hyperparameters"] == auto
    assert told["method"].items() >= {"type": "supervised", "supervised": {"hyperparameters": auto}}.items()
    assert abs(job.created_at - time.time()) < 60
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    # And a training with the base's recommended preset
    trained = parameters(listening, job)
    assert trained.items() >= {**PRESET, "instance_prompt": "a sks robot", "seed": 7, "num_photos": 3}.items()
    assert (trained["model_id"], trained["base_model"]) == ("my-robot", POCKET)
    assert trained["preset"] == "full-text-encoder"
    # And it has the photos themselves: the file may go
    client.files.delete(file_id)
    keys = worker.stores.jobs.get("anna", job.id).photo_keys
    assert [worker.stores.job_objects.get_bytes(key)[0] for key in keys] == list(PHOTOS.values())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hyperparameters": {"n_epochs": 50}}, {"max_training_steps": math.ceil(50 * 3 / 6)}),
        ({"hyperparameters": {"n_epochs": 50, "batch_size": 1}}, {"max_training_steps": 150, "train_batch_size": 1}),
        (
            {"hyperparameters": {"n_epochs": 3, "batch_size": 2, "gradient_accumulation_steps": 2}},
            {"max_training_steps": 3, "train_batch_size": 2, "gradient_accumulation_steps": 2},
        ),
        ({"hyperparameters": {"learning_rate_multiplier": 0.5}}, {"learning_rate": 0.0001}),
        (
            {"hyperparameters": {"learning_rate_multiplier": 2}, "metadata": {**PROMPT, "preset": "lora"}},
            {"learning_rate": 0.004, "kind": "lora", "lora_rank": 8},
        ),
        (
            {"hyperparameters": {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}},
            PRESET,
        ),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 10, "batch_size": 1}}}},
            {"max_training_steps": 30},
        ),
        (
            {"method": {"type": "dreambooth", "dreambooth": {"hyperparameters": {"max_training_steps": 12}}}},
            {"max_training_steps": 12},
        ),
        ({"method": {"type": "dreambooth"}}, PRESET),
        (
            {
                "metadata": {
                    **PROMPT,
                    "preset": "seed",
                    "max_training_steps": "150",
                    "learning_rate": "1e-4",
                    "lr_scheduler": "cosine",
                    "kind": "lora",
                    "lora_rank": "4",
                    "prior_preservation": "true",
                    "class_prompt": "a robot",
                    "num_class_images": "5",
                    "train_text_encoder": "false",
                    "resolution": "32",
                }
            },
            {
                "max_training_steps": 150,
                "learning_rate": 1e-4,
                "lr_scheduler": "cosine",
                "kind": "lora",
                "lora_rank": 4,
                "prior_preservation": True,
                "class_prompt": "a robot",
                "num_class_images": 5,
                "train_text_encoder": False,
                "resolution_px": 32,
            },
        ),
        (
            {"metadata": {**PROMPT, "sample_prompt": "a sks robot on the beach", "sample_every_steps": "50"}},
            {"sample_prompt": "a sks robot on the beach", "sample_every_steps": 50},
        ),
    ],
)
def test_openai_s_words_and_our_own_say_how_it_is_trained(
    client: OpenAI, listening: Listening, file_id: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    job = create(client, file_id, **options)
    trained = parameters(listening, job)
    assert {name: trained[name] for name in expected} == pytest.approx(expected)


def test_what_was_asked_for_is_told_back(client: OpenAI, file_id: str) -> None:
    asked = {"n_epochs": 50, "batch_size": 2, "learning_rate_multiplier": 0.5}
    job = create(client, file_id, method={"type": "dreambooth", "dreambooth": {"hyperparameters": asked}})
    told = client.fine_tuning.jobs.retrieve(job.id).model_dump()
    assert told["hyperparameters"] == asked
    expected = {"type": "dreambooth", "supervised": None, "dreambooth": {"hyperparameters": asked}}
    assert told["method"].items() >= expected.items()


IN_BOTH = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}


@pytest.mark.parametrize(
    ("options", "param", "match"),
    [
        ({"metadata": {}}, "metadata.instance_prompt", "is required"),
        ({"metadata": {"instance_prompt": " "}}, "metadata.instance_prompt", "must not be empty"),
        ({"model": "gpt-4o-mini"}, "model", "gpt-4o-mini"),
        ({"suffix": "my robot!"}, "suffix", "letters, digits"),
        ({"suffix": "x" * 65}, "suffix", "1 to 64"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"validation_file": "file-1"}, "validation_file", "is not supported"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "is not supported"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method.type", "supervised"),
        ({"method": {"type": "reinforcement"}}, "method.type", "supervised"),
        ({"method": {"type": "dreambooth", "supervised": {}}}, "method", "another type than dreambooth"),
        ({"method": IN_BOTH, "hyperparameters": {"n_epochs": 2}}, "hyperparameters", "given in method already"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than or equal to 1"),
        ({"hyperparameters": {"n_epochs": "10"}}, "hyperparameters.n_epochs", "valid integer"),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs", "valid integer"),
        ({"hyperparameters": {"batch_size": 65}}, "hyperparameters.batch_size", "less than or equal to 64"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "hyperparameters.learning_rate_multiplier",
            "greater than 0",
        ),
        (
            {"hyperparameters": {"learning_rate_multiplier": 1000}, "metadata": {**PROMPT, "preset": "lora"}},
            "hyperparameters.learning_rate_multiplier",
            "less than or equal to 1",
        ),
        (
            {"hyperparameters": {"n_epochs": 10_000, "batch_size": 1}, "training_file": "fifty"},
            "hyperparameters.n_epochs",
            "less than or equal to 100000",
        ),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs", "Unknown parameter"),
        (
            {"hyperparameters": {"n_epochs": 3, "max_training_steps": 5}},
            "hyperparameters.n_epochs",
            "cannot be beside hyperparameters.max_training_steps",
        ),
        (
            {"hyperparameters": {"learning_rate_multiplier": 3}, "metadata": {**PROMPT, "learning_rate": "1e-4"}},
            "hyperparameters.learning_rate_multiplier",
            "cannot be beside metadata.learning_rate",
        ),
        (
            {"hyperparameters": {"batch_size": 3, "train_batch_size": 3}},
            "hyperparameters.batch_size",
            "given by hyperparameters.train_batch_size already",
        ),
        (
            {"hyperparameters": {"max_training_steps": 3}, "metadata": {**PROMPT, "max_training_steps": "3"}},
            "hyperparameters.max_training_steps",
            "given by metadata.max_training_steps already",
        ),
        ({"metadata": {**PROMPT, "max_training_steps": "many"}}, "metadata.max_training_steps", "must be a number"),
        ({"metadata": {**PROMPT, "max_training_steps": "1.5"}}, "metadata.max_training_steps", "valid integer"),
        ({"metadata": {**PROMPT, "max_training_steps": "1_000"}}, "metadata.max_training_steps", "must be a number"),
        ({"metadata": {**PROMPT, "learning_rate": "NaN"}}, "metadata.learning_rate", "must be a number"),
        ({"metadata": {**PROMPT, "learning_rate": "[1]"}}, "metadata.learning_rate", "must be a number"),
        ({"metadata": {**PROMPT, "prior_preservation": "1"}}, "metadata.prior_preservation", "valid boolean"),
        ({"metadata": {**PROMPT, "preset": "best"}}, "metadata.preset", "lora"),
        ({"metadata": {**PROMPT, "resolution": "33"}}, "metadata.resolution", "8"),
        ({"metadata": {**PROMPT, "sample_every_steps": "5"}}, "metadata.sample_every_steps", "needs a sample_prompt"),
        ({"metadata": {**PROMPT, "note": 5}}, "metadata.note", "valid string"),
        ({"metadata": {**PROMPT, "note": "x" * 513}}, "metadata.note", "at most 512"),
        ({"metadata": {**PROMPT, **{f"key{number}": "" for number in range(16)}}}, "metadata", "at most 16"),
        ({"extra_body": {"priority": 1}}, "priority", "Unknown parameter"),
    ],
)
def test_a_request_that_cannot_be_is_refused_by_the_parameter_s_name(
    client: OpenAI, worker: Worker, file_id: str, options: dict[str, Any], param: str, match: str
) -> None:
    before = worker.stores.database["jobs"].count_documents({})
    if options.get("training_file") == "fifty":
        options = {**options, "training_file": upload(client, zip_of_photos(50))}
    with pytest.raises(openai.BadRequestError, match=match) as refused:
        create(client, options.pop("training_file", file_id), **options)
    assert refused.value.param == param
    assert worker.stores.database["jobs"].count_documents({}) == before


@pytest.mark.parametrize("missing", ["model", "training_file", "metadata"])
def test_what_is_required_is_missed_by_name(listening: Listening, file_id: str, missing: str) -> None:
    body: dict[str, Any] = {"model": POCKET, "training_file": file_id, "metadata": PROMPT}
    del body[missing]
    answer = listening.ask("POST", "/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": missing,
        "code": "missing_required_parameter",
    }


def test_a_model_without_a_name_gets_one(client: OpenAI, worker: Worker, file_id: str) -> None:
    first, other = create(client, file_id, seed=100), create(client, file_id, seed=101)
    names = [worker.stores.jobs.get("anna", job.id).model_name for job in (first, other)]
    assert all(name.startswith("ft-pocket-") for name in names)
    assert len(set(names)) == 2


@pytest.mark.parametrize("suffix", [None, "joined"])
def test_a_request_that_is_sent_again_joins_the_job_that_it_made(
    client: OpenAI, worker: Worker, file_id: str, suffix: str | None
) -> None:
    # Given a job, and the same request once more: OpenAI's SDK does so by itself when a connection breaks
    first = create(client, file_id, suffix=suffix, seed=200)
    assert create(client, file_id, suffix=suffix, seed=200).id == first.id
    # When it has ended
    worker.succeed(worker.claim(first.id))
    # Then the same request trains again
    assert create(client, file_id, suffix=suffix, seed=200).id != first.id


def test_the_idempotency_key_is_the_trainings(client: OpenAI, file_id: str) -> None:
    headers = {"Idempotency-Key": "once"}
    first = create(client, file_id, suffix="once", extra_headers=headers)
    assert create(client, file_id, suffix="once", extra_headers=headers).id == first.id
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        create(client, file_id, suffix="twice", extra_headers=headers)


@pytest.mark.parametrize("gone", ["never", "deleted", "another's"])
def test_a_file_that_is_not_there_trains_nothing(client: OpenAI, listening: Listening, gone: str) -> None:
    ids = {"never": "file-0", "deleted": upload(client), "another's": upload(client)}
    client.files.delete(ids["deleted"])
    key = listening.strangers_key if gone == "another's" else listening.key
    with listening.client(api_key=key) as asker, pytest.raises(openai.NotFoundError, match="There is no file"):
        create(asker, ids[gone])


def test_a_tenant_s_waiting_jobs_are_bounded(around: Surroundings) -> None:
    with listening_gateway(around, max_queued_trainings=1) as few, few.client() as client:
        file_id = upload(client)
        create(client, file_id)
        with pytest.raises(openai.RateLimitError, match="no more are taken until one has ended"):
            create(client, file_id, seed=1)


def test_photos_that_the_memory_has_no_room_for_are_refused_for_now(around: Surroundings) -> None:
    with listening_gateway(around, max_buffered_bytes=500) as small, small.client() as client:
        file_id = upload(client)
        with pytest.raises(openai.InternalServerError, match="come again when it is less busy"):
            create(client, file_id)


# Following


def test_a_job_s_states_are_openai_s(client: OpenAI, worker: Worker, file_id: str) -> None:
    jobs = client.fine_tuning.jobs
    # Given a job that a worker takes and works on
    job = create(client, file_id, suffix="states")
    assert job.status == "queued"
    claimed = worker.claim(job.id)
    worker.stores.jobs.renew(job.id, claimed.attempt, {"phase": "training", "step": 5, "remaining_s": 60.0})
    running = jobs.retrieve(job.id)
    assert (running.status, running.fine_tuned_model) == ("running", None)
    assert running.estimated_finish is not None
    assert 30 < running.estimated_finish - time.time() < 90
    # When it has succeeded
    worker.succeed(claimed)
    # Then its model has a name
    succeeded = jobs.retrieve(job.id)
    assert (succeeded.status, succeeded.fine_tuned_model, succeeded.error) == ("succeeded", "states", None)
    assert succeeded.finished_at is not None
    assert abs(succeeded.finished_at - time.time()) < 60
    assert succeeded.estimated_finish is None
    # And one that failed says why, by its own name of the model
    other = create(client, file_id, suffix="fails")
    claimed = worker.claim(other.id)
    reason = {"code": "out_of_gpu_memory", "message": f"No room for {claimed.model_id}.", "details": {}}
    worker.stores.jobs.fail(other.id, claimed.attempt, reason)
    failed = jobs.retrieve(other.id)
    assert (failed.status, failed.fine_tuned_model) == ("failed", None)
    assert failed.error is not None
    assert failed.error.model_dump() == {"code": "out_of_gpu_memory", "message": "No room for fails.", "param": None}


def events_of(client: OpenAI, job_id: str, *, limit: int = 3) -> list[FineTuningJobEvent]:
    """All of them, oldest first, read in small pages."""
    return list(client.fine_tuning.jobs.list_events(job_id, limit=limit))[::-1]


def test_a_job_s_events_tell_what_happened_under_ids_that_stay(client: OpenAI, worker: Worker) -> None:
    # Given a job of a single photo, which is few
    file_id = upload(client, zip_of_photos(1))
    job = create(client, file_id, suffix="told")
    first = events_of(client, job.id)
    assert [(event.level, event.type) for event in first] == [("info", "message"), *[("warn", "message")] * 2]
    assert first[0].message == "Accepted; waits for a worker."
    # When a worker tells of its way
    claimed = worker.claim(job.id)
    worker.tell(claimed, "An attempt begins.", f"The folder of {claimed.model_id} is there.")
    worker.histories.set_losses(job.id, claimed.attempt, [(10, 0.5), (20, 0.25)])
    worker.stores.jobs.renew(job.id, claimed.attempt, {"phase": "training", "step": 20, "remaining_s": 60.0})
    on_the_way = events_of(client, job.id)
    worker.tell(claimed, "Memory is short.", level="warning")
    worker.succeed(claimed)
    after = events_of(client, job.id)
    # Then each event keeps its id and words
    assert on_the_way[:3] == first
    words = {event.id: (event.message, event.level, event.data) for event in after}
    assert all(words[event.id] == (event.message, event.level, event.data) for event in on_the_way)
    ids = [event.id for event in after]
    assert len(ids) == len(set(ids)) == 9
    # And the first is the beginning, the last the end, and all between are there once
    messages = [event.message for event in after]
    assert messages[-1] == "Succeeded."
    assert sorted(messages[3:-1]) == sorted(
        [
            "An attempt begins.",
            "The folder of told is there.",
            "Memory is short.",
            "Step 10/100: training loss=0.5000",
            "Step 20/100: training loss=0.2500",
        ]
    )
    assert {event.level for event in after if event.message == "Memory is short."} == {"warn"}
    metrics = [event for event in after if event.type == "metrics"]
    assert [event.data for event in metrics] == [
        {"step": 10, "total_steps": 100, "train_loss": 0.5},
        {"step": 20, "total_steps": 100, "train_loss": 0.25},
    ]
    times = [event.created_at for event in after]
    assert times == sorted(times)
    # And newest first, in pages that end
    page = client.fine_tuning.jobs.list_events(job.id, limit=8)
    assert page.data == after[:0:-1]
    assert page.has_more
    rest = client.fine_tuning.jobs.list_events(job.id, limit=8, after=page.data[-1].id)
    assert (rest.data, rest.has_more) == (after[:1], False)


def test_log_lines_keep_their_ids_when_the_oldest_go(client: OpenAI, worker: Worker, file_id: str) -> None:
    # Given a log of as many lines as are kept
    job = create(client, file_id, suffix="long-log")
    claimed = worker.claim(job.id)
    worker.tell(claimed, *(f"line {number}" for number in range(500)))
    before = {event.message: event.id for event in events_of(client, job.id, limit=1000)}
    # When two more come
    worker.tell(claimed, "line 500", "line 501")
    after = {event.message: event.id for event in events_of(client, job.id, limit=1000)}
    # Then the two oldest are gone, and all others are what they were
    assert set(before) - set(after) == {"line 0", "line 1"}
    assert {message: event_id for message, event_id in after.items() if message in before}.items() <= before.items()


def test_an_event_that_is_not_there_begins_no_page(client: OpenAI, file_id: str) -> None:
    job = create(client, file_id, suffix="no-page")
    with pytest.raises(openai.BadRequestError, match="is not the id of an event") as refused:
        client.fine_tuning.jobs.list_events(job.id, after="ftevent-0")
    assert refused.value.param == "after"


def test_a_failed_job_s_last_event_is_an_error(client: OpenAI, worker: Worker, file_id: str) -> None:
    job = create(client, file_id, suffix="failed-events")
    claimed = worker.claim(job.id)
    worker.stores.jobs.fail(job.id, claimed.attempt, {"code": "job_failed", "message": "It broke.", "details": {}})
    last = events_of(client, job.id)[-1]
    assert (last.level, last.message) == ("error", "Failed (job_failed): It broke.")


def test_no_checkpoint_is_a_model(client: OpenAI, file_id: str) -> None:
    job = create(client, file_id, suffix="checkpoints")
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []


# Lists


def test_the_list_has_all_trainings_page_by_page(client: OpenAI, listening: Listening, file_id: str) -> None:
    # Given a job, and a training that was begun otherwise
    job = create(client, file_id, suffix="listed")
    training = listening.ask("POST", "/v1/trainings", json=training_body("listed-too")).json()
    # When the list is read
    newest = list(client.fine_tuning.jobs.list(limit=2))[:2]
    # Then both are in it, newest first
    assert [each.id for each in newest] == [training["id"], job.id]
    assert newest[1] == job
    assert (newest[0].training_file, newest[0].metadata) == ("", {})
    # And its pages go on from each other
    page = client.fine_tuning.jobs.list(limit=1, after=training["id"])
    assert [each.id for each in page.data] == [job.id]
    assert page.has_more


def test_the_list_is_filtered_by_metadata(client: OpenAI, file_id: str) -> None:
    odd = {"team.$x": "a=b", "empty": ""}
    both = create(client, file_id, suffix="both", metadata={**PROMPT, **odd, "colour": "red"})
    one = create(client, file_id, suffix="one", metadata={**PROMPT, "colour": "red"})

    def found(**metadata: str) -> list[str]:
        return [job.id for job in client.fine_tuning.jobs.list(metadata=metadata)]

    assert found(colour="red") == [one.id, both.id]
    assert found(colour="blue") == []
    assert found(colour="red", empty="") == [both.id]
    assert found(**odd) == [both.id]


def test_an_unknown_field_of_a_list_is_refused(listening: Listening) -> None:
    for query in ("metadata=null", "metadata[x=1", "model=x", "limit=0", "limit=x"):
        answer = listening.ask("GET", f"/v1/fine_tuning/jobs?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == query.partition("=")[0]


# Ending


def test_a_job_that_waits_is_cancelled_at_once(client: OpenAI, file_id: str) -> None:
    job = create(client, file_id, suffix="cancelled")
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.fine_tuned_model, cancelled.error) == ("cancelled", None, None)
    assert cancelled.finished_at is not None
    assert events_of(client, job.id)[-1].message == "Cancelled."
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_job_that_runs_is_cancelled_by_its_worker(client: OpenAI, worker: Worker, file_id: str) -> None:
    job = create(client, file_id, suffix="cancel-running")
    claimed = worker.claim(job.id)
    # When its end is asked for
    assert client.fine_tuning.jobs.cancel(job.id).status == "running"
    # Then its worker learns that, and ends it
    assert worker.stores.jobs.renew(job.id, claimed.attempt, None)
    worker.stores.jobs.cancelled(job.id, claimed.attempt)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"


def test_a_job_that_has_ended_is_not_cancelled(client: OpenAI, worker: Worker, file_id: str) -> None:
    job = create(client, file_id, suffix="ended")
    worker.succeed(worker.claim(job.id))
    with pytest.raises(openai.ConflictError, match="has ended: succeeded") as refused:
        client.fine_tuning.jobs.cancel(job.id)
    assert refused.value.response.headers["X-Should-Retry"] == "false"


def test_pausing_is_refused_by_name(client: OpenAI, file_id: str) -> None:
    job = create(client, file_id, suffix="paused")
    for ask in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.ConflictError, match="not paused and resumed"):
            ask(job.id)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"


def test_another_tenant_s_job_is_not_there(client: OpenAI, listening: Listening, file_id: str) -> None:
    job = create(client, file_id, suffix="hidden")
    with listening.client(api_key=listening.strangers_key) as stranger:
        jobs = stranger.fine_tuning.jobs
        for ask in (jobs.retrieve, jobs.list_events, jobs.checkpoints.list, jobs.cancel, jobs.pause, jobs.resume):
            with pytest.raises(openai.NotFoundError, match=r"There is no (training|job)"):
                ask(job.id)
        assert jobs.list().data == []
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"


def test_a_job_that_is_tried_again_keeps_what_was_asked_for(client: OpenAI, listening: Listening, file_id: str) -> None:
    job = create(client, file_id, suffix="again", metadata={**PROMPT, "label": "x"})
    client.fine_tuning.jobs.cancel(job.id)
    again = listening.ask("POST", f"/v1/trainings/{job.id}/retry").json()
    assert client.fine_tuning.jobs.retrieve(again["id"]).metadata == {**PROMPT, "label": "x"}
