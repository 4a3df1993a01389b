"""From a request to a job that a worker can take."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from answers import assert_error
from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from training_gateway import Connections, Gateway, OpenGateway, gateway, photo, train_body, training_body

from enlight.dreambooth_api.requests import TrainingRequest
from enlight.main_api.trainings.leftovers import sweep
from enlight.main_api.trainings.objects import TrainingObjects
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import StorageUnavailable
from enlight.servicekit.object_store import SMALL_OBJECT_BYTES

pytest_plugins = ["training_fixtures"]


class FailingStore(DirectoryStore):
    """A bucket that does ``act`` instead of its write number ``at`` (from 0)."""

    def __init__(self, folder: Path, *, at: int, act: Callable[[], None]) -> None:
        super().__init__(folder)
        self._writes_left = at
        self._act = act

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        self._writes_left -= 1
        if self._writes_left < 0:
            self._act()
        return super().put_bytes(key, data, if_absent=if_absent, if_generation=if_generation)


def test_an_accepted_training_is_all_that_a_worker_needs(gate: Gateway, queue: EmbeddedServer) -> None:
    # When a training is asked for
    body = training_body("Alex-Model-Fun", seed=2**63 - 1, preset="seed", learning_rate=1e-5)
    response = gate.post("/v1/trainings", body)
    # Then it is accepted under the tenant's name
    assert response.status_code == 202
    view = response.json
    assert isinstance(view, dict)
    assert response.headers["Location"] == f"/v1/trainings/{view['id']}"
    assert (view["state"], view["model_id"], view["position"], view["attempt"]) == ("queued", "Alex-Model-Fun", 0, 0)
    assert view["parameters"]["num_photos"] == 3
    assert view["preset"] == "seed"
    # And its record rebuilds the trainer's request, with the id in the bucket
    job = gate.store.find(view["id"])
    assert job is not None
    request = TrainingRequest(**job.request, photos=())
    assert request.model_id == job.model_id == gate.names.bucket_id("acme", "Alex-Model-Fun")
    assert request.model_id != "Alex-Model-Fun"
    assert (request.seed, request.learning_rate, request.base_name) == (2**63 - 1, 1e-5, "enlight/pocket")
    # And the photos are in the jobs' bucket as they came
    assert job.photo_keys == [f"{job.id}/photos/{index:02d}" for index in range(3)]
    assert [gate.objects.get_bytes(key)[0] for key in job.photo_keys] == [photo(index) for index in range(3)]
    # And a worker was told
    with redis.Redis.from_url(queue.url) as client:
        assert len(list(client.scan_iter(f"rq:job:{job.id}*"))) == 1


def test_a_photo_over_the_limit_of_small_objects_is_stored_too(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    large = bytes(SMALL_OBJECT_BYTES + 1)
    [key] = TrainingObjects(store).put_photos("tr-1", [large])
    assert store.get_bytes(key, max_bytes=len(large))[0] == large


def test_two_tenants_use_one_name_and_do_not_meet(gate: Gateway) -> None:
    mine, theirs = gate.start("chair", tenant="acme"), gate.start("chair", tenant="other")
    jobs = gate.store.find_many([mine, theirs])
    assert jobs[mine].model_id != jobs[theirs].model_id
    # Another tenant's training is not there, whatever is asked of it
    for answer in (
        gate.get(f"/v1/trainings/{theirs}"),
        gate.get(f"/v1/trainings/{theirs}/events"),
        gate.post(f"/v1/trainings/{theirs}/cancel", {}),
        gate.delete(f"/v1/trainings/{theirs}"),
    ):
        assert_error(answer, 404, "not_found")
    listed = gate.get("/v1/trainings").json
    assert isinstance(listed, dict)
    assert [training["id"] for training in listed["trainings"]] == [mine]
    assert gate.store.find(theirs) is not None


def test_one_idempotency_key_makes_one_training(gate: Gateway) -> None:
    body = training_body()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: gate.post("/v1/trainings", body, Idempotency_Key="k-1"), range(12)))
    ids = {answer.json["id"] for answer in answers if answer.json}
    assert [answer.status_code for answer in answers] == [202] * 12
    assert len(ids) == 1
    # And nothing is left of the other eleven
    assert {info.key.split("/")[0] for info in gate.objects.list()} == ids
    # The key with another body, or another webhook, is a mistake
    other = training_body(max_training_steps=7)
    assert_error(gate.post("/v1/trainings", other, Idempotency_Key="k-1"), 422, "invalid_field", "Idempotency-Key")
    moved = gate.post("/v1/trainings", body, Idempotency_Key="k-1", X_Webhook_URL="http://example.com/")
    assert_error(moved, 422, "invalid_field", "Idempotency-Key")
    # Another tenant's key is another key
    assert gate.post("/v1/trainings", other, Idempotency_Key="k-1", tenant="other").status_code == 202


@pytest.mark.parametrize("key", ["", "a b", "ä", "k" * 256, "tab\t"])
def test_an_idempotency_key_that_cannot_be_one_is_refused(gate: Gateway, key: str) -> None:
    answer = gate.post("/v1/trainings", training_body(), Idempotency_Key=key)
    assert_error(answer, 422, "invalid_field", "Idempotency-Key")


@pytest.mark.parametrize("url", ["ftp://example.com/", "http://10.0.0.1/", "http://169.254.169.254/latest"])
def test_a_webhook_to_the_inside_is_refused_before_anything_starts(gate: Gateway, url: str) -> None:
    answer = gate.post("/v1/trainings", training_body(), X_Webhook_URL=url)
    assert_error(answer, 422, "invalid_field", "X-Webhook-URL")
    assert gate.store.count("queued") == 0


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model_id": "no/slash"}, 422, "invalid_field"),
        ({"photos": [base64.b64encode(photo()[:100]).decode()]}, 400, "broken_image"),
        ({"base_model": "no/such"}, 422, "invalid_field"),
        ({"unknown": 1}, 422, "invalid_field"),
    ],
)
def test_a_body_that_cannot_be_trained_on_leaves_nothing(
    gate: Gateway, changes: dict[str, Any], status: int, code: str
) -> None:
    assert_error(gate.post("/v1/trainings", training_body(**changes)), status, code)
    assert gate.store.count("queued") == 0
    assert list(gate.objects.list()) == []


def test_a_tenant_has_so_many_trainings_and_no_more(open_gateway: OpenGateway) -> None:
    with open_gateway(max_queued_trainings=3) as gate:
        # When many ask at once
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda n: gate.post("/v1/trainings", training_body(f"m{n}")), range(12)))
        # Then exactly so many are taken, and nothing is left of the others
        taken = [answer.json["id"] for answer in answers if answer.status_code == 202 and answer.json]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert (len(taken), len(refused)) == (3, 9)
        for answer in refused:
            assert_error(answer, 429, "quota_exceeded")
            assert int(answer.headers["Retry-After"]) > 0
        assert {info.key.split("/")[0] for info in gate.objects.list()} == set(taken)
        # Another tenant is not concerned
        assert gate.post("/v1/trainings", training_body(), tenant="other").status_code == 202
        # A running one counts, an ended one does not
        job = gate.claim(taken[0])
        assert gate.post("/v1/trainings", training_body()).status_code == 429
        gate.store.cancelled(taken[0], job.attempt)
        assert gate.post("/v1/trainings", training_body()).status_code == 202


def test_a_repeated_request_finds_its_training_though_there_is_no_room(open_gateway: OpenGateway) -> None:
    with open_gateway(max_queued_trainings=1) as gate:
        first = gate.start(Idempotency_Key="k")
        assert gate.start(Idempotency_Key="k") == first
        # Also when both come at once
        body = training_body("other")
        gate.post(f"/v1/trainings/{first}/cancel", {})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: gate.post("/v1/trainings", body, Idempotency_Key="k2"), range(8)))
        assert [answer.status_code for answer in answers] == [202] * 8


def test_the_queue_of_all_tenants_is_bounded(open_gateway: OpenGateway) -> None:
    with open_gateway(max_all_queued_trainings=2) as gate:
        gate.start(tenant="a")
        second = gate.start(tenant="b")
        answer = gate.post("/v1/trainings", training_body(), tenant="c")
        assert_error(answer, 503, "queue_full")
        assert int(answer.headers["Retry-After"]) > 0
        # A training that runs does not wait
        gate.claim(second)
        assert gate.post("/v1/trainings", training_body(), tenant="c").status_code == 202


def test_a_bucket_that_fails_within_the_photos_leaves_nothing(open_gateway: OpenGateway, tmp_path: Path) -> None:
    def fail() -> None:
        raise StorageUnavailable("The bucket is away.")

    with open_gateway(objects=FailingStore(tmp_path / "objects", at=2, act=fail)) as gate:
        assert_error(gate.post("/v1/trainings", training_body()), 503, "storage_unavailable")
        assert gate.store.count("queued") == 0
        assert list(gate.objects.list()) == []


def test_a_queue_that_is_away_is_no_reason_to_refuse(connections: Connections, tmp_path: Path) -> None:
    with valkey_server(tmp_path / "queue") as away:
        away.kill()
        with gateway(replace(connections, queue_url=away.url)) as gate:
            job_id = gate.start()
            # The record is what counts: whoever looks for jobs finds it
            assert job_id in gate.store.undispatched(0)


def test_a_database_that_dies_before_the_record_leaves_no_training(tmp_path: Path, queue: EmbeddedServer) -> None:
    with mongo_server(tmp_path / "mongo") as mongo:
        objects = FailingStore(tmp_path / "objects", at=2, act=mongo.kill)
        connections = Connections(mongo.url, queue.url, tmp_path)
        with gateway(connections, objects=objects, started=False) as gate:
            # When the database dies after the photos, before the record
            assert_error(gate.post("/v1/trainings", training_body()), 503, "database_unavailable")
            # Then the photos stay, because nobody can tell whether the record was written
            leftovers = {info.key.split("/")[0] for info in objects.list()}
            assert len(leftovers) == 1
            # And nothing is removed on a guess
            with pytest.raises(Exception, match="database"):
                sweep(TrainingObjects(objects), gate.store, photos_kept_s=0, untouched_s=-1)
            assert {info.key.split("/")[0] for info in objects.list()} == leftovers
            # When it is there again: no training, and the sweep takes the photos
            mongo.start()
            assert gate.store.count("queued") == 0
            sweep(TrainingObjects(objects), gate.store, photos_kept_s=0, untouched_s=-1)
            assert list(objects.list()) == []


def test_the_sweep_takes_what_is_over_and_nothing_else(gate: Gateway) -> None:
    waiting, running, failed = gate.start("a"), gate.start("b"), gate.start("c")
    gate.claim(running)
    gate.fail(failed, "job_failed", "x")
    sweep(TrainingObjects(gate.objects), gate.store, photos_kept_s=0)
    assert gate.keys(failed)  # touched a moment ago: a request or a worker may still be at it
    sweep(TrainingObjects(gate.objects), gate.store, photos_kept_s=0, untouched_s=-1)
    assert (len(gate.keys(waiting)), len(gate.keys(running)), gate.keys(failed)) == (3, 3, [])


def test_trainings_are_listed_page_by_page(gate: Gateway) -> None:
    started = [gate.start(name) for name in ("a", "b", "a", "b", "a")]
    seen: list[str] = []
    before = ""
    for expected in (2, 2, 1):
        page = gate.get(f"/v1/trainings?limit=2{before}").json
        assert isinstance(page, dict)
        assert len(page["trainings"]) == expected
        seen += [training["id"] for training in page["trainings"]]
        before = f"&before={page['next']}"
    assert before == "&before=None"
    assert seen == started[::-1]
    # One model's, and those in a state
    gate.succeed(started[0])
    of_a = gate.get("/v1/trainings?model_id=a&state=queued").json
    assert isinstance(of_a, dict)
    assert [training["id"] for training in of_a["trainings"]] == [started[4], started[2]]
    assert [training["position"] for training in of_a["trainings"]] == [3, 1]
    assert gate.get("/v1/trainings?limit=201").status_code == 422
    assert gate.get("/v1/trainings?colour=red").status_code == 422


def test_the_edges_of_a_list(gate: Gateway) -> None:
    def ids(query: str) -> list[str]:
        page = gate.get(f"/v1/trainings?{query}").json
        assert isinstance(page, dict), query
        assert page["next"] is None
        return [training["id"] for training in page["trainings"]]

    first, theirs, last = gate.start("a"), gate.start("a", tenant="other"), gate.start("b")
    # A page that is just full is the last one
    assert ids("limit=2") == ids("limit=200") == [last, first]
    # Whatever stands there as a place in the list, only the tenant's own trainings are listed
    for before, expected in (
        (last, [first]),
        (first, []),
        (theirs, [first]),
        ("~", [last, first]),
        ("", []),
        ("%00", []),
        ("%F0%9F%90%B6", [last, first]),
    ):
        assert ids(f"before={before}") == expected, before
    for query in ("limit=0", "limit=-1", "limit=1.5", "limit=", "limit=1e9", f"before={'x' * 65}", "state=lost"):
        assert_error(gate.get(f"/v1/trainings?{query}"), 422, "invalid_field")
    # What ended meanwhile does not shift a page
    gate.post(f"/v1/trainings/{last}/cancel", {})
    assert ids(f"before={last}") == [first]


def test_a_training_s_end_is_shown_under_the_tenant_s_name(gate: Gateway) -> None:
    done, failed = gate.start("a"), gate.start("b")
    gate.succeed(done, "v7")
    bucket_id = gate.names.bucket_id("acme", "b")
    gate.fail(failed, "worker_lost", f"The model {bucket_id} took its worker with it.")
    view = gate.get(f"/v1/trainings/{done}").json
    assert isinstance(view, dict)
    assert (view["state"], view["model_version"], view["error"]) == ("succeeded", "v7", None)
    assert view["created_at"] <= view["started_at"] <= view["finished_at"]
    view = gate.get(f"/v1/trainings/{failed}").json
    assert isinstance(view, dict)
    assert view["error"] == {"code": "worker_lost", "message": "The model b took its worker with it.", "details": {}}
    assert bucket_id not in gate.get(f"/v1/trainings/{failed}").text


def test_a_waiting_training_is_cancelled_at_once_and_its_photos_wait_for_another_try(gate: Gateway) -> None:
    job_id = gate.start()
    gate.objects.put_bytes(f"{job_id}/checkpoints/00000001-0001/seal.json", b"{}")  # of a worker that gave it back
    answer = gate.post(f"/v1/trainings/{job_id}/cancel", {})
    assert (answer.status_code, answer.json and answer.json["state"]) == (202, "cancelled")
    assert gate.keys(job_id) == [f"{job_id}/photos/{index:02d}" for index in range(3)]
    assert gate.store.claim(job_id, "worker") is None
    # Twice is no error
    assert gate.post(f"/v1/trainings/{job_id}/cancel", {}).status_code == 202


def test_a_running_training_s_worker_is_asked_to_stop(gate: Gateway) -> None:
    job_id = gate.start()
    job = gate.claim(job_id)
    shown = gate.get(f"/v1/trainings/{job_id}").json
    answer = gate.post(f"/v1/trainings/{job_id}/cancel", {})
    assert (answer.status_code, answer.json and answer.json["state"]) == (202, "running")
    assert (shown and shown["cancel_requested"], answer.json and answer.json["cancel_requested"]) == (False, True)
    assert gate.store.renew(job_id, job.attempt, None) is True
    assert gate.keys(job_id) != []


def test_an_ended_training_is_not_cancelled(gate: Gateway) -> None:
    job_id = gate.start()
    gate.succeed(job_id)
    assert_error(gate.post(f"/v1/trainings/{job_id}/cancel", {}), 409, "conflict")


def test_only_an_ended_training_is_deleted_with_all_that_it_has(gate: Gateway) -> None:
    job_id = gate.start(X_Webhook_URL="http://example.com/")
    assert_error(gate.delete(f"/v1/trainings/{job_id}"), 409, "conflict")
    assert len(gate.keys(job_id)) == 3
    job = gate.claim(job_id)
    gate.store.cancelled(job_id, job.attempt)
    answer = gate.delete(f"/v1/trainings/{job_id}")
    assert (answer.status_code, answer.data, answer.headers.get("Content-Type")) == (204, b"", None)
    assert_error(gate.get(f"/v1/trainings/{job_id}"), 404, "not_found")
    assert gate.keys(job_id) == []
    assert gate.database["webhook_deliveries"].count_documents({"job_id": job_id}) == 0


def test_the_gateway_needs_no_torch() -> None:
    code = "import sys, enlight.main_api.trainings.routes; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_seed_s_body_meets_the_same_limits(open_gateway: OpenGateway) -> None:
    with open_gateway(max_queued_trainings=1) as gate:
        gate.start("first")
        assert_error(gate.post("/train", train_body()), 429, "quota_exceeded")
