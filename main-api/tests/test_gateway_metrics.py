"""What the gateway measures besides its requests: kept answers, jobs, workers, dependencies, webhooks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from embedded_servers import mongo_server, valkey_server
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, surroundings
from job_samples import new_job, opened
from metric_samples import sample
from stand_in_service import Seen, http
from waiting import wait_until

from enlight.jobkit.dispatcher import Dispatcher, connect_queue
from enlight.jobkit.job_statistics import JobStatistics
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.worker_registry import WorkerRegistry
from enlight.main_api.metrics.dependency_figures import dependencies_up
from enlight.main_api.metrics.job_figures import JobFigures
from enlight.main_api.settings import Settings
from enlight.main_api.workers.training_workers import TrainingWorkers
from enlight.servicekit.errors import DatabaseUnavailable
from enlight.servicekit.metrics import ServiceMetrics

PNG = b"\x89PNG\r\n" + bytes(range(256))
ROUTE = "/v1/cutout"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("metrics")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(around: Surroundings) -> Settings:
    return around.settings()


@pytest.fixture(scope="module")
def anna(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "anna"))


def lookups(client: FlaskClient, result: str) -> float:
    try:
        text = client.get("/metrics").text
        return sample(text, "enlight_response_cache_lookups_total", route=ROUTE, result=result)
    except KeyError:  # none yet
        return 0.0


def cut_out(client: FlaskClient, data: bytes) -> int:
    return client.post(ROUTE, data=data, content_type="image/png").status_code


def test_kept_answers_are_counted_by_how_a_request_got_its_own(around: Surroundings, anna: FlaskClient) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slowly(seen: Seen) -> bytes:
        asked.set()
        assert go_on.wait(20)
        return http(PNG, content_type="image/png")

    # When a picture is asked for twice at once, and a third time afterwards
    around.behind["bgrem"].answer = slowly
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cut_out, anna, PNG)
        assert asked.wait(20)
        second = pool.submit(cut_out, anna, PNG)
        assert not wait_until(second.done, 0.5)  # it waits for the first one's
        go_on.set()
        assert (first.result(20), second.result(20)) == (200, 200)
    assert cut_out(anna, PNG) == 200
    # Then one was computed, one waited for it, one was kept
    assert {result: lookups(anna, result) for result in ("miss", "coalesced", "hit", "unkept")} == {
        "miss": 1,
        "coalesced": 1,
        "hit": 1,
        "unkept": 0,
    }


def test_a_dependency_that_is_away_is_shown(around: Surroundings, tmp_path: Path) -> None:
    with ExitStack() as running, ExitStack() as cache:
        server = cache.enter_context(valkey_server(tmp_path / "cache"))
        client = running.enter_context(gateway(around.settings(cache_urls=[server.url]))).test_client()

        def up(dependency: str) -> float:
            return sample(client.get("/metrics").text, "enlight_dependency_up", dependency=dependency)

        everything = ("database", "queue", "cache", "dreambooth-api", "bgrem", "upsampler", "realesrgan")
        assert all(up(name) == 1 for name in everything)
        cache.close()
        assert wait_until(lambda: up("cache") == 0, 20)
        assert up("queue") == 1


def test_a_service_is_up_while_one_of_its_addresses_is_and_what_nobody_looked_at_is_left_out() -> None:
    seen = {"cache": "away", "queue": "unknown", "a": [{"state": "away"}, {"state": "busy"}], "b": [{"state": "away"}]}
    assert dependencies_up(seen) == {"cache": 0.0, "a": 1.0, "b": 0.0}


def test_jobs_and_workers_are_looked_at_beforehand_and_not_when_somebody_asks(tmp_path: Path) -> None:
    metrics = ServiceMetrics(http=False)

    def figure(name: str, **labels: str) -> float:
        return sample(metrics.text().decode(), f"enlight_{name}", **labels)

    with valkey_server(tmp_path / "queue") as valkey, closing(connect_queue(valkey.url, timeout_s=0.5)) as queue:
        with mongo_server(tmp_path / "mongo") as mongo, opened(mongo, timeout_s=1) as database:
            jobs, store = JobStatistics(database), JobStore(database, lease_s=0.2)
            figures = JobFigures(jobs, TrainingWorkers(WorkerRegistry(queue), jobs), queue)
            figures.add_metrics(metrics)
            figures.look()
            assert figure("oldest_queued_job_age_seconds") == 0
            assert figure("jobs") == figure("job_leases") == figure("training_workers") == 0
            # Given two that wait, one of them in the queue, and one whose worker is not heard of any more
            for _ in range(2):
                waiting, _ = store.create(new_job())
            with closing(Dispatcher(valkey.url, timeout_s=0.5)) as dispatcher:
                assert dispatcher.dispatch(waiting.id)
            lost, _ = store.create(new_job())
            store.claim(lost.id, "host:1")
            assert wait_until(lambda: not jobs.holders()[0].is_alive)
            figures.look()
            assert {state: figure("jobs", state=state) for state in ("queued", "running")} == {
                "queued": 2,
                "running": 1,
            }
            assert {state: figure("job_leases", state=state) for state in ("held", "expired")} == {
                "held": 0,
                "expired": 1,
            }
            assert figure("training_workers", state="unreachable") == 1
            assert figure("queue_dispatches") == 1
            assert 0 < figure("oldest_queued_job_age_seconds") < 60
        # When the database is away, then whoever asks gets what was seen
        assert figure("jobs", state="queued") == 2
        # And after a look that failed nothing that may be wrong by now
        with pytest.raises(DatabaseUnavailable):
            figures.look()
        assert figure("queue_dispatches") == 1
        for gone in ("jobs", "job_leases", "training_workers", "oldest_queued_job_age_seconds"):
            with pytest.raises(KeyError):
                figure(gone)
