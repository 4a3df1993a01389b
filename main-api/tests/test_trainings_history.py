"""What the gateway shows of a training's way: samples, losses, log; and trying it again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from answers import assert_error
from training_gateway import SCOPE_HEADER, Gateway, OpenGateway, photo, training_body
from training_streams import follow

from enlight.jobkit.job_histories import JobHistories, LogLine
from enlight.jobkit.jobs import Job, JobSample, sample_key
from enlight.main_api.trainings.leftovers import sweep
from enlight.main_api.trainings.objects import TrainingObjects

pytest_plugins = ["training_fixtures"]

AT = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
SAMPLES = {"sample_prompt": "a sks chair", "max_training_steps": 100}


def start(gate: Gateway, **changes: Any) -> str:
    answer = gate.post("/v1/trainings", training_body(**changes))
    assert answer.status_code == 202, answer.text
    return str(json_of(answer)["id"])


def json_of(answer: Any) -> dict[str, Any]:
    assert isinstance(answer.json, dict), answer.text
    return answer.json


def add_sample(gate: Gateway, job: Job, step: int) -> bytes:
    """What a worker does with a sample."""
    png = photo(step)
    sample = JobSample(step, job.attempt, 1.5, len(png), hashlib.sha256(png).hexdigest())
    gate.objects.put_bytes(sample_key(job.id, sample), png)
    gate.store.add_sample(job.id, job.attempt, sample)
    return png


# Samples


def test_samples_are_asked_for_and_shown(gate: Gateway) -> None:
    job_id = start(gate, **SAMPLES)
    job = gate.claim(job_id)
    assert (job.request["sample_prompt"], job.request["sample_every_steps"]) == ("a sks chair", 20)
    assert json_of(gate.get(f"/v1/trainings/{job_id}"))["samples"] == []
    pictures = {step: add_sample(gate, job, step) for step in (40, 20)}
    url = f"/v1/trainings/{job_id}/samples"
    shown = json_of(gate.get(f"/v1/trainings/{job_id}"))
    assert shown["samples"] == [{"step": step, "url": f"{url}/{step}", "seconds": 1.5} for step in (20, 40)]
    assert shown["parameters"]["sample_prompt"] == "a sks chair"

    # Each is a file that never changes
    answer = gate.get(f"{url}/20")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", pictures[20])
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = gate.get(f"{url}/20", If_None_Match=answer.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    # Of what was not made there is none, and of another tenant's training nothing
    assert_error(gate.get(f"{url}/60"), 404, "not_found")
    assert_error(gate.get(f"{url}/20", tenant="other"), 404, "not_found")
    assert_error(gate.get(f"{url}/0"), 422, "invalid_field")
    assert_error(gate.get(f"{url}/x"), 422, "invalid_field")


def test_a_file_that_is_not_the_sample_is_not_shown(gate: Gateway) -> None:
    job = gate.claim(start(gate, **SAMPLES))
    add_sample(gate, job, 20)
    (sample,) = gate.store.get("acme", job.id).samples
    gate.objects.put_bytes(sample_key(job.id, sample), photo(99)[: sample.size_bytes])
    assert_error(gate.get(f"/v1/trainings/{job.id}/samples/20"), 503, "storage_unavailable")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sample_prompt": " "}, "sample_prompt"),
        ({"sample_prompt": "a\0b"}, "sample_prompt"),
        ({"sample_prompt": "x" * 2001}, "sample_prompt"),
        ({"sample_every_steps": 10}, "sample_every_steps"),
        ({**SAMPLES, "sample_every_steps": 0}, "sample_every_steps"),
        ({**SAMPLES, "sample_every_steps": 4}, "sample_every_steps"),
        ({**SAMPLES, "sample_every_steps": "10"}, "sample_every_steps"),
    ],
)
def test_samples_that_cannot_be_made_are_refused(gate: Gateway, changes: dict[str, Any], field: str) -> None:
    assert_error(gate.post("/v1/trainings", training_body(**changes)), 422, "invalid_field", field)
    assert gate.store.count("queued") == 0


@pytest.mark.parametrize(("steps", "every"), [(100, 5), (104, 5), (20, 1), (419, 20)])
def test_twenty_samples_are_not_too_many(gate: Gateway, steps: int, every: int) -> None:
    start(gate, sample_prompt="a sks chair", max_training_steps=steps, sample_every_steps=every)
    too_often = training_body(sample_prompt="x", max_training_steps=(every * 21), sample_every_steps=every)
    answer = gate.post("/v1/trainings", too_often)
    assert_error(answer, 422, "invalid_field", "sample_every_steps")
    # What the message names is taken
    least = int(json_of(answer)["message"].split(": ")[-1].split()[0])
    start(gate, sample_prompt="x", max_training_steps=every * 21, sample_every_steps=least)
    if least > 1:
        refused = training_body(sample_prompt="x", max_training_steps=every * 21, sample_every_steps=least - 1)
        assert gate.post("/v1/trainings", refused).status_code == 422


def test_a_training_without_samples_is_as_an_older_worker_knows_it(gate: Gateway) -> None:
    job = gate.claim(start(gate))
    assert not {"sample_prompt", "sample_every_steps"} & job.request.keys()


def test_the_stream_tells_of_samples_as_they_come(gate: Gateway) -> None:
    job = gate.claim(start(gate, **SAMPLES))
    stream = follow(gate, job.id)
    assert next(stream).name == "state"
    tell = {"step": 20, "url": f"/v1/trainings/{job.id}/samples/20", "seconds": 1.5}
    add_sample(gate, job, 20)
    event = next(stream)
    assert event[1:] == ("sample", tell)
    add_sample(gate, job, 40)
    second = next(stream)
    assert (second.name, second.data["step"]) == ("sample", 40)
    # Whoever comes back after the first gets what it missed
    back = follow(gate, job.id, event.id)
    assert [(each.name, each.data.get("step")) for each in (next(back), next(back), next(back))] == [
        ("state", None),
        ("sample", 20),
        ("sample", 40),
    ]
    # And whoever knows all waits for the end
    known = follow(gate, job.id, second.id)
    gate.store.cancelled(job.id, job.attempt)
    assert list(known)[-1].data == {"state": "cancelled"}


# Losses and log


def test_losses_are_shown_as_they_were_told(gate: Gateway) -> None:
    job = gate.claim(start(gate))
    url = f"/v1/trainings/{job.id}/losses"
    assert json_of(gate.get(url)) == {"losses": []}
    histories = JobHistories(gate.database)
    histories.begin(job.id, 1)
    histories.set_losses(job.id, 1, [(3, 0.5), (6, 0.25)])
    assert json_of(gate.get(url)) == {"losses": [{"step": 3, "loss": 0.5}, {"step": 6, "loss": 0.25}]}
    assert_error(gate.get(url, tenant="other"), 404, "not_found")


def test_the_log_tells_what_happened_over_all_attempts(gate: Gateway) -> None:
    job_id = gate.start("chair")
    assert [line["message"] for line in log(gate, job_id)] == ["Accepted; waits for a worker."]
    job = gate.claim(job_id)
    histories = JobHistories(gate.database)
    for attempt in (1, 2):
        histories.begin(job.id, attempt)
        line = LogLine(AT, "warning", attempt, f"The model {job.model_id} was slow.", f"Traceback: {job.model_id}")
        histories.add_lines(job.id, f"{attempt}.1", [line])
    gate.store.fail(job_id, 1, {"code": "job_failed", "message": f"{job.model_id} diverged.", "details": {}})

    lines = log(gate, job_id)
    assert [(line["attempt"], line["level"], line["message"]) for line in lines] == [
        (0, "info", "Accepted; waits for a worker."),
        (1, "warning", "The model chair was slow."),
        (2, "warning", "The model chair was slow."),
        (1, "error", "Failed (job_failed): chair diverged."),
    ]
    assert lines[1]["at"] == "2026-11-27T09:00:00.000+00:00"
    # A trace is for admins
    assert [line["trace"] for line in lines] == [None] * 4
    admins = log(gate, job_id, **{SCOPE_HEADER.replace("-", "_"): "admin"})
    assert [line["trace"] for line in admins] == [None, "Traceback: chair", "Traceback: chair", None]
    assert_error(gate.get(f"/v1/trainings/{job_id}/log", tenant="other"), 404, "not_found")


def test_the_newest_lines_are_shown_and_whether_there_were_more(gate: Gateway) -> None:
    job = gate.claim(gate.start())
    histories = JobHistories(gate.database)
    histories.begin(job.id, 1)
    histories.add_lines(job.id, "1.1", [LogLine(AT, "info", 1, str(number)) for number in range(600)])
    url = f"/v1/trainings/{job.id}/log"
    answer = json_of(gate.get(f"{url}?lines=3"))
    assert ([line["message"] for line in answer["lines"]], answer["truncated"]) == (["597", "598", "599"], True)
    assert len(json_of(gate.get(url))["lines"]) == 200
    assert json_of(gate.get(f"{url}?lines=500"))["truncated"] is True
    short = json_of(gate.get(f"/v1/trainings/{gate.start('b')}/log"))
    assert short["truncated"] is False
    for query in ("lines=0", "lines=501", "lines=x", "colour=red"):
        assert_error(gate.get(f"{url}?{query}"), 422, "invalid_field")


def log(gate: Gateway, job_id: str, **headers: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json_of(gate.get(f"/v1/trainings/{job_id}/log", **headers))["lines"]
    return lines


def test_with_the_training_goes_its_history(gate: Gateway) -> None:
    job = gate.claim(start(gate, **SAMPLES))
    add_sample(gate, job, 20)
    JobHistories(gate.database).begin(job.id, 1)
    gate.store.cancelled(job.id, job.attempt)
    assert gate.delete(f"/v1/trainings/{job.id}").status_code == 204
    assert gate.keys(job.id) == []
    assert gate.database["job_histories"].count_documents({}) == 0
    for of_it in ("samples/20", "losses", "log"):
        assert_error(gate.get(f"/v1/trainings/{job.id}/{of_it}"), 404, "not_found")


# What stays in the bucket


def test_what_an_ended_training_still_has_is_kept_as_long_as_it_is_good_for(gate: Gateway) -> None:
    objects = TrainingObjects(gate.objects)
    ended: dict[str, Job] = {}
    for end in ("succeeded", "failed", "cancelled"):
        job = ended[end] = gate.claim(start(gate, model_id=end, **SAMPLES))
        add_sample(gate, job, 20)
        gate.objects.put_bytes(f"{job.id}/checkpoints/00000001-0001/seal.json", b"{}")
    gate.store.commit(ended["succeeded"].id, 1, "v1")
    gate.store.succeed(ended["succeeded"].id, 1, {})
    gate.store.fail(ended["failed"].id, 1, {"code": "job_failed", "message": "x", "details": {}})
    gate.store.cancelled(ended["cancelled"].id, 1)

    def folders() -> dict[str, set[str]]:
        return {end: {key.split("/")[1] for key in gate.keys(job.id)} for end, job in ended.items()}

    everything = {"photos", "checkpoints", "samples"}
    sweep(objects, gate.store, photos_kept_s=3600)
    assert folders() == dict.fromkeys(ended, everything)  # written a moment ago: a worker may still be at it
    sweep(objects, gate.store, photos_kept_s=3600, untouched_s=-1)
    assert folders() == {
        "succeeded": {"samples"}, "failed": {"photos", "samples"}, "cancelled": {"photos", "samples"}
    }  # fmt: skip
    sweep(objects, gate.store, photos_kept_s=-1, untouched_s=-1)
    assert folders() == {end: {"samples"} for end in ended}


# Another try


def test_a_failed_training_is_tried_again_with_its_photos(gate: Gateway) -> None:
    old_id = start(gate, model_id="chair", learning_rate=1e-5, **SAMPLES)
    gate.fail(old_id, "job_failed", "x")
    answer = gate.post(f"/v1/trainings/{old_id}/retry", None)
    assert answer.status_code == 202, answer.text
    view = json_of(answer)
    assert (view["state"], view["retry_of"], view["model_id"]) == ("queued", old_id, "chair")
    assert answer.headers["Location"] == f"/v1/trainings/{view['id']}"
    old, new = gate.store.get("acme", old_id), gate.store.get("acme", view["id"])
    assert new.id != old.id
    assert (new.request, new.warnings, new.model_id) == (old.request, old.warnings, old.model_id)
    assert [gate.objects.get_bytes(key)[0] for key in new.photo_keys] == [photo(index) for index in range(3)]
    assert json_of(gate.get(f"/v1/trainings/{old_id}"))["retry_of"] is None
    assert f"It repeats {old_id}." in log(gate, new.id)[0]["message"]
    # The photos are its own: the old training can go
    assert gate.delete(f"/v1/trainings/{old_id}").status_code == 204
    assert len(gate.keys(new.id)) == 3


def test_a_training_cancelled_before_its_turn_is_tried_again(gate: Gateway) -> None:
    old_id = gate.start()
    gate.post(f"/v1/trainings/{old_id}/cancel", {})
    view = json_of(gate.post(f"/v1/trainings/{old_id}/retry", None))
    assert (view["state"], view["retry_of"]) == ("queued", old_id)
    # Until that has ended, who asks again gets the same; afterwards a new one
    assert json_of(gate.post(f"/v1/trainings/{old_id}/retry", None))["id"] == view["id"]
    gate.fail(view["id"], "job_failed", "x")
    assert json_of(gate.post(f"/v1/trainings/{old_id}/retry", None))["id"] != view["id"]


def test_many_who_try_again_at_once_start_one_training(gate: Gateway) -> None:
    old_id = gate.start()
    gate.post(f"/v1/trainings/{old_id}/cancel", {})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gate.post(f"/v1/trainings/{old_id}/retry", None), range(8)))
    new_ids = {json_of(answer)["id"] for answer in answers}
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len(new_ids) == 1
    assert {info.key.split("/")[0] for info in gate.objects.list()} == {old_id, *new_ids}


def test_only_what_ended_without_a_model_is_tried_again(gate: Gateway) -> None:
    waiting, running, done = gate.start("a"), gate.start("b"), gate.start("c")
    gate.claim(running)
    gate.succeed(done)
    for job_id in (waiting, running, done):
        assert_error(gate.post(f"/v1/trainings/{job_id}/retry", None), 409, "conflict")
    assert_error(gate.post("/v1/trainings/tr-0/retry", None), 404, "not_found")
    failed = gate.start("d")
    gate.fail(failed, "job_failed", "x")
    assert_error(gate.post(f"/v1/trainings/{failed}/retry", None, tenant="other"), 404, "not_found")


def test_without_its_photos_a_training_is_not_tried_again_and_leaves_nothing(gate: Gateway) -> None:
    old_id = gate.start()
    gate.fail(old_id, "job_failed", "x")
    gate.objects.delete(f"{old_id}/photos/01")
    answer = gate.post(f"/v1/trainings/{old_id}/retry", None)
    assert_error(answer, 409, "conflict")
    assert "no longer kept" in json_of(answer)["message"]
    assert {info.key.split("/")[0] for info in gate.objects.list()} == {old_id}
    assert gate.store.count("queued") == 0


def test_another_try_is_a_training_like_any_other(open_gateway: OpenGateway) -> None:
    with open_gateway(max_queued_trainings=1) as gate:
        old_id = gate.start(X_Webhook_URL="http://example.com/a")
        gate.fail(old_id, "job_failed", "x")
        # It needs room
        other = gate.start("other")
        assert_error(gate.post(f"/v1/trainings/{old_id}/retry", None), 429, "quota_exceeded")
        gate.succeed(other)
        # It has a key of its own, which means it and nothing else
        first = json_of(gate.post(f"/v1/trainings/{old_id}/retry", None, Idempotency_Key="k"))
        gate.fail(first["id"], "job_failed", "x")
        assert json_of(gate.post(f"/v1/trainings/{old_id}/retry", None, Idempotency_Key="k"))["id"] == first["id"]
        answer = gate.post(f"/v1/trainings/{first['id']}/retry", None, Idempotency_Key="k")
        assert_error(answer, 422, "invalid_field", "Idempotency-Key")
        # Its end is told where the first one's was, unless the request says where
        assert gate.store.get("acme", first["id"]).webhook_url == "http://example.com/a"
        url = f"/v1/trainings/{first['id']}/retry"
        told = json_of(gate.post(url, None, X_Webhook_URL="http://example.com/b"))
        assert gate.store.get("acme", told["id"]).webhook_url == "http://example.com/b"
        assert_error(gate.post(url, None, X_Webhook_URL="http://10.0.0.1/"), 422, "invalid_field", "X-Webhook-URL")
