"""One request that comes many times, while the gateway is killed and started again: it is one training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from gateways import Surroundings, gateway_under_gunicorn, make_key, opened, surroundings
from training_gateway import training_body
from waiting import wait_until

from enlight.main_api.settings import Settings
from enlight.main_api.trainings.leftovers import sweep
from enlight.main_api.trainings.objects import TrainingObjects
from enlight.servicekit.local_service import LocalService

CONFIG = Path(__file__).resolve().parents[1] / "gunicorn.conf.py"
CLIENTS = 50
LIMIT_S = 120


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("duplicates")) as servers:
        yield servers


@pytest.fixture
def settings(around: Surroundings) -> Settings:
    return around.settings()


@pytest.fixture
def service(around: Surroundings, settings: Settings) -> Iterator[LocalService]:
    """The whole gateway under gunicorn."""
    with gateway_under_gunicorn(settings, around.folder / "gateway.log") as running:
        yield running


def insist(url: str, key: str) -> str:
    """The id of the training, however often a client must ask for it."""
    headers = {"X-API-Key": key, "Idempotency-Key": "once", "X-Webhook-URL": "http://example.com/"}
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            answer = requests.post(f"{url}/v1/trainings", json=training_body(), headers=headers, timeout=30)
        except requests.RequestException:  # refused, or cut off before its answer
            answer = None
        if answer is not None and answer.status_code != 503:
            assert answer.status_code == 202, answer.text[:500]
            return str(answer.json()["id"])
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


def restart(service: LocalService) -> None:
    service.kill()
    service.start()


def test_fifty_equal_requests_over_restarts_of_the_gateway_are_one_training(
    settings: Settings, service: LocalService
) -> None:
    anna, bob = make_key(settings, "anna"), make_key(settings, "bob")
    with opened(settings) as stores, ThreadPoolExecutor(CLIENTS) as pool:
        # Given fifty clients that send one request of one tenant, and another tenant that uses the same key
        clients = [pool.submit(insist, service.url, anna) for _ in range(CLIENTS)]
        # When the gateway is killed as the first photos arrive, and again as there is a training
        assert wait_until(lambda: bool(list(stores.job_objects.list())), LIMIT_S)
        restart(service)
        assert wait_until(lambda: stores.jobs.count("queued", tenant="anna") > 0, LIMIT_S)
        restart(service)
        ids = {client.result(LIMIT_S) for client in clients}
        other_id = insist(service.url, bob)
        # Then all of them have the same training, of which there is one; and the other tenant has its own
        assert len(ids) == 1
        assert [job.id for job in stores.jobs.list("anna")] == list(ids)
        assert [job.id for job in stores.jobs.list("bob")] == [other_id]
        # And of what was cut off nothing stays but photos, which the sweep removes
        sweep(TrainingObjects(stores.job_objects), stores.jobs, photos_kept_s=0, untouched_s=-1)
        assert {info.key.split("/")[0] for info in stores.job_objects.list()} == {*ids, other_id}
        for key, job_id in ((anna, ids.pop()), (bob, other_id)):
            page = requests.get(f"{service.url}/v1/trainings", headers={"X-API-Key": key}, timeout=30).json()
            assert [training["id"] for training in page["trainings"]] == [job_id]
