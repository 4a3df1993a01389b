"""`/v1/workers`, and where a model is at hand: a whole gateway, and processes that say how they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from job_samples import new_job
from small_models import publish, write_lora
from status_services import IDLE, Process, held, process
from waiting import wait_until

from enlight.main_api.settings import Settings
from enlight.main_api.workers import instance_looks
from enlight.servicekit.service_status import ServiceStatus, resident


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("workers")) as servers:
        yield servers


@pytest.fixture(scope="module")
def generator() -> Iterator[Process]:
    """In the place of dreambooth-api's process; the gateway's address of it is another one, a balancer's."""
    with process() as told:
        yield told


@pytest.fixture(scope="module")
def settings(around: Surroundings, generator: Process) -> Settings:
    return around.settings(dreambooth_instance_urls=[generator.url])


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[OpenAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_looks, "ASK_EVERY_S", 0.0)
        with gateway(settings) as running:
            yield running


@pytest.fixture(scope="module")
def admin(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "house", "admin"))


@pytest.fixture(scope="module")
def anna(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "anna"))


def workers(client: FlaskClient) -> dict[str, dict[str, Any]]:
    answer = client.get("/v1/workers")
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return {worker["service"]: worker for worker in answer.json["workers"]}


def test_every_process_is_shown_with_what_it_has(
    admin: FlaskClient, settings: Settings, generator: Process, tmp_path: Path
) -> None:
    # Given a process with a base model, a model of anna's and one that nobody has any more
    with opened(settings) as stores:
        bucket_id = stores.names.reserve("anna", "my-cat")
    models = [*resident(["enlight/pocket"]), held(bucket_id, "host"), held("gone", "host"), held("on-disk", "disk")]
    generator.status = ServiceStatus("ready", {**IDLE, "pending": 4, "running": 1}, models)
    # When an admin looks
    shown = workers(admin)["dreambooth-api"]
    # Then models have their tenants' names, and those on the disk only are none in memory
    in_memory = [(each["model_id"], each["tenant"], each["tier"]) for each in shown.pop("resident_models")]
    assert in_memory == [
        ("enlight/pocket", None, "resident"),
        ("my-cat", "anna", "host"),
        (None, None, "host"),
    ]
    memory, seen_at = [shown.pop(name) for name in ("memory_used_bytes", "memory_total_bytes")], shown.pop("seen_at")
    assert 0 < memory[0] < memory[1]
    assert seen_at is not None
    address = generator.url.removeprefix("http://")
    assert shown == {
        "id": f"dreambooth-api@{address}",
        "service": "dreambooth-api",
        "host": socket.gethostname(),
        "url": generator.url,
        "state": "busy",
        "device": "cpu",
        "memory_kind": "host",
        "queued": 3,
        "running": 1,
        "training_id": None,
    }


def test_a_service_that_says_nothing_of_itself_is_unreachable(admin: FlaskClient, around: Surroundings) -> None:
    shown = workers(admin)["bgrem"]
    assert shown == {
        "id": f"bgrem@{around.behind['bgrem'].url.removeprefix('http://')}",
        "service": "bgrem",
        "host": "",
        "url": around.behind["bgrem"].url,
        "state": "unreachable",
        "resident_models": [],
        "queued": 0,
        "running": 0,
        **dict.fromkeys(("device", "memory_kind", "memory_used_bytes", "memory_total_bytes", "training_id", "seen_at")),
    }


def test_one_that_hangs_is_told_of_as_it_was_seen_last(admin: FlaskClient, generator: Process) -> None:
    generator.status = ServiceStatus("ready", {**IDLE, "pending": 4, "running": 1}, [held("cat", "host")])
    before = workers(admin)["dreambooth-api"]
    generator.answers.clear()
    now = workers(admin)["dreambooth-api"]
    assert (now["state"], now["resident_models"], now["queued"], now["running"]) == ("unreachable", [], 0, 0)
    assert now["memory_used_bytes"] is None
    kept = ("id", "host", "device", "memory_kind", "memory_total_bytes", "seen_at")
    assert [now[name] for name in kept] == [before[name] for name in kept]
    generator.answers.set()
    assert wait_until(lambda: workers(admin)["dreambooth-api"]["state"] == "busy")


def test_a_training_s_worker_and_the_queue_are_shown(admin: FlaskClient, settings: Settings) -> None:
    with opened(settings) as stores:
        jobs = [stores.jobs.create(new_job(tenant="anna"))[0] for _ in range(3)]
        assert stores.jobs.claim(jobs[0].id, "gpu-machine:71") is not None
    answer = admin.get("/v1/workers").json
    assert answer is not None
    (worker,) = [each for each in answer["workers"] if each["service"] == "training-worker"]
    assert (worker["id"], worker["host"]) == ("training-worker@gpu-machine:71", "gpu-machine")
    assert (worker["url"], worker["device"], worker["state"], worker["running"]) == (None, None, "busy", 1)
    assert worker["training_id"] == jobs[0].id
    assert answer["queue"] == {"queued": 2, "running": 1}


def test_it_is_for_admins(app: OpenAPI, anna: FlaskClient) -> None:
    assert_error(anna.get("/v1/workers"), 403, "forbidden")
    assert_error(app.test_client().get("/v1/workers"), 401, "unauthorized")


def test_where_a_model_is_at_hand(
    anna: FlaskClient, app: OpenAPI, settings: Settings, generator: Process, tmp_path: Path
) -> None:
    # Given a model of which a process has two versions, and one that nobody has
    with opened(settings) as stores:
        ids = {name: stores.names.reserve("anna", name) for name in ("my-dog", "my-cup")}
        for name, bucket_id in ids.items():
            publish(stores.models, bucket_id, write_lora(tmp_path / name, seed=1), "lora")
    generator.status = ServiceStatus(
        "ready", IDLE, [held(ids["my-dog"], "resident", "v2"), held(ids["my-dog"], "disk", "v1"), held("cat", "host")]
    )
    host = socket.gethostname()
    copies = [
        {"host": host, "tier": "resident", "version": "v2"},
        {"host": host, "tier": "disk", "version": "v1"},
    ]
    # Then its owner sees where, also in the list
    assert wait_until(lambda: (anna.get("/v1/models/my-dog").json or {})["cached_on"] == copies)
    assert (anna.get("/v1/models/my-cup").json or {})["cached_on"] == []
    listed = {model["id"]: model["cached_on"] for model in (anna.get("/v1/models").json or {})["data"]}
    assert (listed["my-dog"], listed["my-cup"]) == (copies, [])
    # A process that cannot be reached has nothing at hand
    generator.answers.clear()
    assert (anna.get("/v1/models/my-dog").json or {})["cached_on"] == []
    generator.answers.set()
