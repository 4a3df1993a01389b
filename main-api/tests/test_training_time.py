"""Workers' time on trainings: counted against the tenant's limit, recorded as usage, each once, whoever is there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from training_gateway import Connections, Gateway, OpenGateway, gateway, train_body, training_body
from waiting import wait_until

from enlight.jobkit.database import open_database, server_time
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import EndedAttempt, Job
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.limits.quotas import GPU_SECONDS, tenant_limits
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.usage.training_time import TrainingTime
from enlight.servicekit.errors import DatabaseUnavailable, QuotaExceeded

pytest_plugins = ["training_fixtures"]

HOUR_S = 3600
LIMIT_S = 100
"""GPU seconds of a tenant in an hour, in these tests."""


@pytest.fixture
def tenant() -> str:
    """A tenant of this test's own: the counts of a Valkey outlive it."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connections(connections: Connections, queue: EmbeddedServer) -> Connections:
    """As for other tests, with a Valkey in which all gateways count."""
    return replace(connections, cache_urls=(queue.url,))


def worked(gate: Gateway, job: Job, seconds: float) -> None:
    """As if the job's worker had been at it for so long since its last sign of life."""
    then = server_time(gate.database) - timedelta(seconds=seconds)
    gate.database["jobs"].update_one({"_id": job.id}, {"$set": {"renewed_at": then}})


def started(gate: Gateway, tenant: str, model_id: str = "chair") -> Job:
    """A job that a worker has."""
    return gate.claim(gate.start(model_id, tenant=tenant))


def refused(gate: Gateway, tenant: str) -> bool:
    """Whether the tenant has no GPU seconds left for a training; then both routes say so."""
    taken = gate.post("/v1/trainings", training_body("other"), tenant=tenant)
    if taken.status_code == 202:
        assert isinstance(taken.json, dict)
        gate.post(f"/v1/trainings/{taken.json['id']}/cancel", {}, tenant=tenant)
        return False
    for answer in (taken, gate.post("/train", train_body("other"), tenant=tenant)):
        body = assert_error(answer, 429, "quota_exceeded")
        assert body["error"]["details"]["of"] == GPU_SECONDS
        assert 0 < int(answer.headers["Retry-After"]) <= 1.1 * HOUR_S
    return True


def usage(gate: Gateway, tenant: str) -> list[dict[str, Any]]:
    return list(gate.database["usage"].find({"tenant": tenant}).sort("_id", 1))


def time_of(gate: Gateway) -> TrainingTime:
    """The same as in a gateway of its own, without the thread."""
    return TrainingTime(gate.database, gate.limiter)


@pytest.mark.parametrize(
    "end",
    [
        lambda store, job: store.succeed(job.id, 1, {}),
        lambda store, job: store.fail(job.id, 1, {"code": "x", "message": "x"}),
        lambda store, job: store.cancelled(job.id, 1),
        lambda store, job: store.release(job.id, 1),
    ],
    ids=["succeeded", "failed", "cancelled", "given back"],
)
def test_a_tenant_whose_training_took_its_gpu_seconds_gets_no_more(
    open_gateway: OpenGateway, tenant: str, end: Callable[[JobStore, Job], None]
) -> None:
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate:
        # Given a training that took more than there is, whatever became of it
        job = started(gate, tenant)
        worked(gate, job, LIMIT_S + 1)
        assert not refused(gate, tenant)
        end(gate.store, job)
        # When a gateway looks
        time_of(gate).take_over()
        # Then there is no room for another one, of this tenant
        assert refused(gate, tenant)
        assert not refused(gate, f"{tenant}-2")
        assert gate.store.count("running") == 0


def test_seconds_count_while_a_training_runs(open_gateway: OpenGateway, tenant: str) -> None:
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate:
        job = started(gate, tenant)
        for _ in range(2):
            assert not refused(gate, tenant)
            worked(gate, job, 0.6 * LIMIT_S)
            gate.store.renew(job.id, job.attempt)
            time_of(gate).take_over()
        assert refused(gate, tenant)
        # What is counted is not recorded yet: the attempt goes on
        assert usage(gate, tenant) == []
        shown = gate.get(f"/v1/trainings/{job.id}", tenant=tenant).json
        assert isinstance(shown, dict)
        assert shown["gpu_seconds"] == pytest.approx(1.2 * LIMIT_S, abs=30)


def test_what_ended_while_no_gateway_was_there_counts_and_is_recorded(
    open_gateway: OpenGateway, connections: Connections, tenant: str
) -> None:
    # Given a training that lost a worker and ended with another one, without any gateway
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate:
        job = started(gate, tenant)
    database = open_database(connections.mongo_url, connections.database, timeout_s=5)
    store = JobStore(database, lease_s=0.2)
    store.renew(job.id, 1)
    assert wait_until(lambda: store.reap() == [job.id])
    second = store.claim(job.id, "other")
    assert second is not None
    then = server_time(database) - timedelta(seconds=LIMIT_S + 1)
    database["jobs"].update_one({"_id": job.id}, {"$set": {"renewed_at": then}})
    store.succeed(job.id, 2, {})
    database.client.close()
    # When one starts
    with open_gateway(gpu_seconds_per_hour=LIMIT_S) as gate:
        # Then it takes both attempts over, and the seconds
        assert wait_until(lambda: len(usage(gate, tenant)) == 2, 30)
        assert wait_until(lambda: refused(gate, tenant), 30)
        lost, done = usage(gate, tenant)
    assert (lost["_id"], lost["outcome"], lost["attempt"]) == (f"{job.id}.1", "lost", 1)
    assert (done["_id"], done["outcome"], done["attempt"]) == (f"{job.id}.2", "succeeded", 2)
    assert (done["route"], done["training_id"], done["model"]) == ("training", job.id, "chair")
    assert done["gpu_seconds"] > LIMIT_S > lost["gpu_seconds"]


def test_two_gateways_that_look_at_once_count_and_record_once(
    open_gateway: OpenGateway, queue: EmbeddedServer, tenant: str
) -> None:
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate, closing(CacheClient([queue.url])) as other:
        limits = tenant_limits(requests_per_minute=0, gpu_seconds_per_hour=LIMIT_S)
        recorded: list[EndedAttempt] = []
        looks = [
            TrainingTime(gate.database, limiter, recorded=recorded.append)
            for limiter in (gate.limiter, RateLimiter(other, limits=limits))
        ]
        # Given three ended trainings that took 90 % of what there is
        for number in range(3):
            job = started(gate, tenant, f"m{number}")
            worked(gate, job, 0.3 * LIMIT_S)
            gate.store.cancelled(job.id, job.attempt)
        # When eight look at once
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: looks[number % 2].take_over(), range(8)))
        # Then each is recorded once, and counted once: twice would be over the limit
        assert [record["gpu_seconds"] // (0.3 * LIMIT_S) for record in usage(gate, tenant)] == [1, 1, 1]
        assert [ended.outcome for ended in recorded] == ["cancelled"] * 3
        assert not refused(gate, tenant)
        gate.limiter.record(tenant, GPU_SECONDS, 0.1 * LIMIT_S)
        assert refused(gate, tenant)


def test_a_gateway_that_dies_between_its_steps_leaves_nothing_twice(open_gateway: OpenGateway, tenant: str) -> None:
    with open_gateway(started=False) as gate:
        job = started(gate, tenant)
        gate.store.cancelled(job.id, job.attempt)
        # Given one that wrote the record and was not heard of again
        ended = gate.store.get(tenant, job.id)
        time_of(gate)._record(ended)
        assert len(usage(gate, tenant)) == 1
        # When the next one looks
        time_of(gate).take_over()
        # Then it is there once, and nothing is left to do
        assert len(usage(gate, tenant)) == 1
        assert gate.store.get(tenant, job.id).unrecorded_attempts == ()


def test_a_training_that_is_forgotten_at_once_is_not_forgiven(open_gateway: OpenGateway, tenant: str) -> None:
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate:
        # Given a tenant that cancels its training at its end, and deletes it before any gateway looks
        job = started(gate, tenant)
        worked(gate, job, LIMIT_S + 1)
        gate.store.cancelled(job.id, job.attempt)
        assert gate.delete(f"/v1/trainings/{job.id}", tenant=tenant).status_code == 204
        # Then it was counted and recorded all the same
        assert [record["training_id"] for record in usage(gate, tenant)] == [job.id]
        assert refused(gate, tenant)


def test_what_was_used_before_the_window_counts_no_more(open_gateway: OpenGateway, tenant: str) -> None:
    with open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate:

        def ended(ago_s: float) -> None:
            job = started(gate, tenant)
            worked(gate, job, 10 * HOUR_S)
            gate.store.cancelled(job.id, job.attempt)
            worked(gate, job, ago_s)
            time_of(gate).take_over()

        # Given a training of ten hours whose end nobody saw for more than an hour
        ended(HOUR_S + 1)
        # Then the hour that is over now has room, and the record says what it took
        assert not refused(gate, tenant)
        assert usage(gate, tenant)[0]["gpu_seconds"] >= 10 * HOUR_S
        # Given one that ended 50 seconds later, then 50 seconds of it count; of the next one as many
        ended(HOUR_S - 0.5 * LIMIT_S)
        assert not refused(gate, tenant)
        ended(HOUR_S - 0.6 * LIMIT_S)
        assert refused(gate, tenant)


@pytest.mark.parametrize("route", ["/v1/trainings", "/train"])
def test_a_request_finds_its_training_again_though_no_seconds_are_left(
    open_gateway: OpenGateway, tenant: str, route: str
) -> None:
    body = training_body() if route == "/v1/trainings" else train_body()
    with (
        open_gateway(started=False, gpu_seconds_per_hour=LIMIT_S) as gate,
        ThreadPoolExecutor(2) as pool,
    ):
        gate.service.watcher.start()
        # Given a training that took all there is, and still runs
        headers = {"Idempotency_Key": "k"} if route == "/v1/trainings" else {}
        first = pool.submit(gate.post, route, body, tenant=tenant, **headers)
        assert wait_until(lambda: gate.store.count("queued", tenant=tenant) == 1)
        job = gate.claim(gate.store.list(tenant)[0].id)
        gate.limiter.record(tenant, GPU_SECONDS, LIMIT_S)
        assert refused(gate, tenant)
        # When its request comes again
        again = pool.submit(gate.post, route, body, tenant=tenant, **headers)
        followers = {"/v1/trainings": 0, "/train": 2}[route]
        assert wait_until(lambda: gate.service.watcher.watched_count == followers)
        gate.store.commit(job.id, 1, "v1")
        gate.store.succeed(job.id, 1, {})
        # Then it is that training
        assert [answer.result(30).status_code // 100 for answer in (first, again)] == [2, 2]
        assert len(gate.store.list(tenant)) == 1
        gate.service.watcher.stop()


def test_a_counter_that_hangs_holds_nobody_up_and_the_limit_holds(
    connections: Connections, tmp_path: Path, tenant: str
) -> None:
    with valkey_server(tmp_path / "cache") as cache:
        hanging = replace(connections, cache_urls=(cache.url,))
        with gateway(hanging, started=False, gpu_seconds_per_hour=LIMIT_S) as gate:
            job = started(gate, tenant)
            worked(gate, job, LIMIT_S + 1)
            gate.store.cancelled(job.id, job.attempt)
            # When the server hangs while a gateway looks
            cache.pause()
            began_s = time.monotonic()
            time_of(gate).take_over()
            assert time.monotonic() - began_s < 5  # what has a limit of 0.2 s by itself
            # Then this gateway has counted for itself
            assert refused(gate, tenant)
            assert len(usage(gate, tenant)) == 1


def test_a_database_that_goes_away_takes_nothing_with_it(queue: EmbeddedServer, tmp_path: Path, tenant: str) -> None:
    with mongo_server(tmp_path / "mongo") as mongo:
        connections = Connections(mongo.url, queue.url, tmp_path, cache_urls=(queue.url,))
        with gateway(connections, started=False, gpu_seconds_per_hour=LIMIT_S, mongo_timeout_s=1) as gate:
            job = started(gate, tenant)
            worked(gate, job, LIMIT_S + 1)
            gate.store.cancelled(job.id, job.attempt)
            mongo.kill()
            with pytest.raises(DatabaseUnavailable):
                time_of(gate).take_over()
            gate.limiter.take(tenant, GPU_SECONDS, 0)  # nothing was counted
            mongo.start()
            time_of(gate).take_over()
            assert len(usage(gate, tenant)) == 1
            with pytest.raises(QuotaExceeded):
                gate.limiter.take(tenant, GPU_SECONDS, 0)
