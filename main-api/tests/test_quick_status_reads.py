"""Looks at trainings on connections that stay open, which one thread of the gateway answers together."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from gateways import Surroundings, gateway_under_gunicorn, make_key, surroundings
from waiting import wait_until

from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import NewJob

CONFIG = Path(__file__).resolve().parents[1] / "gunicorn.conf.py"
MONGO_TIMEOUT_S = 2.0
REFUSED_WITHIN_S = 2 * MONGO_TIMEOUT_S + 4
"""A read may wait behind another one before it asks itself; the rest is for a busy machine."""


@dataclass(frozen=True)
class Running:
    """The gateway under gunicorn, with trainings of two tenants, one of which has to wait."""

    url: str
    store: JobStore
    keys: Mapping[str, str]
    trainings: Mapping[str, list[str]]

    def headers(self, tenant: str) -> dict[str, str]:
        return {"X-API-Key": self.keys[tenant]}


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("quick-reads")) as servers:
        yield servers


@pytest.fixture(scope="module")
def running(around: Surroundings) -> Iterator[Running]:
    settings = around.settings(mongo_timeout_s=MONGO_TIMEOUT_S)
    database = open_database(settings.mongo_url, settings.mongo_database, timeout_s=5)
    service = gateway_under_gunicorn(settings, around.folder / "gateway.log")
    with service:
        store = JobStore(database, lease_s=3600)
        trainings = {tenant: [start(store, tenant) for _ in range(4)] for tenant in ("anna", "berta")}
        for ids in trainings.values():
            for running_id in ids[:3]:
                assert store.claim(running_id, "a worker")
        keys = {tenant: make_key(settings, tenant) for tenant in trainings}
        yield Running(service.url, store, keys, trainings)
    database.client.close()


def start(store: JobStore, tenant: str) -> str:
    new = NewJob(
        id=f"quick-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", tenant=tenant, model_name="m", model_id="m",
        request={"base_name": "enlight/pocket", "preset": None, "max_training_steps": 4}, photo_keys=[], warnings=[],
        idempotency_key=None, body_digest="", webhook_url=None,
    )  # fmt: skip
    store.create(new)
    return new.id


def test_each_gets_what_a_first_look_gives_and_nothing_of_another_tenant(running: Running) -> None:
    ids = [training_id for each in running.trainings.values() for training_id in each]

    def look(client: int) -> None:
        tenant, other = ("anna", "berta") if client % 2 else ("berta", "anna")
        first = {}
        for training_id in running.trainings[tenant]:
            first[training_id] = requests.get(
                f"{running.url}/v1/trainings/{training_id}", headers=running.headers(tenant), timeout=30
            ).json()
        assert sorted(view["state"] for view in first.values()) == ["queued", "running", "running", "running"]
        assert [view["position"] for view in first.values() if view["state"] == "queued"] != [None]
        with requests.Session() as session:
            for number, training_id in zip(range(100), itertools.cycle([*ids, "nobodys"]), strict=False):
                answer = session.get(
                    f"{running.url}/v1/trainings/{training_id}", headers=running.headers(tenant), timeout=30
                )
                if training_id in first:
                    assert answer.json() == first[training_id], number
                else:
                    assert answer.status_code == 404, (training_id in running.trainings[other], answer.text)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(8)))


def test_a_key_is_asked_for_on_a_connection_that_had_one(running: Running) -> None:
    url = f"{running.url}/v1/trainings/{running.trainings['anna'][0]}"
    with requests.Session() as session:
        for headers, status in ((running.headers("anna"), 200), ({}, 401), (running.headers("berta"), 404)) * 3:
            assert session.get(url, headers=headers, timeout=30).status_code == status


def test_a_change_is_seen_by_the_next_look(running: Running) -> None:
    training_id = start(running.store, "anna")
    url = f"{running.url}/v1/trainings/{training_id}"
    with requests.Session() as session:
        session.headers.update(running.headers("anna"))
        assert [session.get(url, timeout=30).json()["state"] for _ in range(3)] == ["queued"] * 3
        assert running.store.claim(training_id, "a worker")
        assert session.get(url, timeout=30).json()["state"] == "running"


def test_a_database_that_hangs_is_refused_in_time_and_keeps_nobody_else_waiting(
    around: Surroundings, running: Running
) -> None:
    url = f"{running.url}/v1/trainings/{running.trainings['anna'][0]}"
    # Given clients whose looks one thread answers
    sessions = [requests.Session() for _ in range(6)]
    for session in sessions:
        session.headers.update(running.headers("anna"))
        assert [session.get(url, timeout=30).status_code for _ in range(3)] == [200] * 3
    try:
        # When the database hangs
        around.mongo.pause()
        began_s = time.monotonic()
        with ThreadPoolExecutor(len(sessions)) as pool:
            looks = [pool.submit(session.get, url, timeout=60) for session in sessions[1:]]
            # Then who asks for something else on such a connection is answered
            assert sessions[0].get(f"{running.url}/live", timeout=60).status_code == 200
            assert time.monotonic() - began_s < MONGO_TIMEOUT_S
            answers = [look.result() for look in looks]
        # And the others are told in time
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
            (503, "database_unavailable")
        }
        assert time.monotonic() - began_s < REFUSED_WITHIN_S
    finally:
        around.mongo.resume()
    # And all is well when it is back
    for session in sessions:
        assert wait_until(lambda session=session: session.get(url, timeout=30).status_code == 200, 30)  # type: ignore[misc]
        session.close()
