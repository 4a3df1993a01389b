"""What the running suite tells Prometheus: figures that move with the work, in a text that parses, asked for by a real
Prometheus with the rules and the dashboard of monitoring/."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from clients import eventually
from local_suite import ROOT, LocalSuite
from metric_samples import metrics_text, sample
from metrics_page import declared, sample_names
from prometheus_client.parser import text_string_to_metric_families
from suite_trainings import start_training, training

from enlight.servicekit.local_process import LocalProcess, free_port
from enlight.servicekit.settings import child_environment

pytestmark = pytest.mark.timeout(600)  # of the first test, which has all the work before it

STEPS = 12
PHOTO = (ROOT / "demo/photos/robot-1.png").read_bytes()
NOT_ON_A_CPU = {"enlight_device_memory_total_bytes", "enlight_device_memory_used_bytes"}
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed (Debian's package prometheus)",
)

Urls = dict[str, str]


@pytest.fixture(scope="module")
def worker_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, worker_port: int) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("suite")
    settings = {
        "DREAMBOOTH_WORKER_": {
            "METRICS_PORT": str(worker_port),
            "CHECKPOINT_EVERY_STEPS": "5",
            "CHECKPOINT_POLL_S": "0.1",
            "PROGRESS_EVERY_S": "0.1",
        }
    }
    services = ("dreambooth-api", "bgrem", "realesrgan", "upsampler")
    with LocalSuite(folder / "data", folder, services=services, page=True, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def urls(suite: LocalSuite, worker_port: int) -> Urls:
    behind = {name: part.url for name, part in suite.parts.items() if hasattr(part, "url")}
    found = {**behind, "dreambooth-worker": f"http://127.0.0.1:{worker_port}"}
    assert set(found) == set(declared())
    return found


@pytest.fixture(scope="module")
def worked(suite: LocalSuite, urls: Urls) -> tuple[dict[str, str], dict[str, str]]:
    """What each service said before and after a training, generations, cut-outs and an upscale."""
    before = texts(urls)
    job_id = start_training(suite, "robbie", steps=STEPS)
    eventually(lambda: (training(suite, job_id) or {}).get("state") == "succeeded", "the training", timeout_s=180)
    generation = {"model_id": "robbie", "prompt": "a sks robot", "num_images": 2, "num_inference_steps": 4, "seed": 1}
    for _ in range(2):  # the second one is kept
        answer = requests.post(f"{suite.url}/v1/generations", json=generation, timeout=120)
        assert answer.status_code == 200, answer.text
    enlarged = "/v1/upscale/realesrgan?out_resolution=1024&model_name=realesr-animevideov3"
    for path in ("/v1/cutout?model=u2netp", "/v1/cutout?model=u2netp", enlarged):
        answer = requests.post(f"{suite.url}{path}", data=PHOTO, headers={"Content-Type": "image/png"}, timeout=240)
        assert answer.status_code == 200, answer.text
    made = {"model_id": "robbie", "prompt": "a sks robot in the snow", "num_images": 1, "num_inference_steps": 4}
    with requests.post(f"{suite.url}/v1/pictures", json=made, timeout=120, stream=True) as events:
        assert b"event: end" in events.content, events.content
    requests.get(suite.dashboard.url, timeout=30)
    # Children tell of themselves within seconds, the gateway looks at the jobs every few
    for service, name, labels, least in (
        ("dreambooth-api", "enlight_pictures_total", {"operation": "generation"}, 3),
        ("bgrem", "enlight_pictures_total", {"operation": "cutout"}, 1),
        ("realesrgan", "enlight_pictures_total", {"operation": "upscale"}, 1),
        ("main-api", "enlight_job_attempt_duration_seconds_count", {"outcome": "succeeded"}, 1),
        ("main-api", "enlight_training_workers", {"state": "ready"}, 1),
    ):
        reached = partial(has_reached, urls[service], name, labels, least)
        eventually(reached, f"{name} of {service}", timeout_s=60)
    return before, texts(urls)


def texts(urls: Urls) -> dict[str, str]:
    return {service: metrics_text(url) for service, url in urls.items()}


def has_reached(url: str, name: str, labels: dict[str, str], least: float) -> bool:
    try:
        return sample(metrics_text(url), name, **labels) >= least
    except KeyError:  # not known yet
        return False


def grown(worked: tuple[dict[str, str], dict[str, str]], service: str, name: str, **labels: str) -> float:
    def read(text: str) -> float:
        try:
            return sample(text, f"enlight_{name}", **labels)
        except KeyError:
            return 0.0

    before, after = worked
    return read(after[service]) - read(before[service])


def test_figures_move_with_a_training(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    worker = "dreambooth-worker"
    assert grown(worked, worker, "training_steps_total") == STEPS
    assert (
        grown(worked, worker, "worker_jobs_total")
        == grown(worked, worker, "worker_jobs_total", outcome="succeeded")
        == 1
    )
    assert grown(worked, worker, "training_attempt_duration_seconds_count", outcome="succeeded") == 1
    for stage in ("queued", "loading", "photos", "training", "saving", "publishing"):
        assert grown(worked, worker, "stage_duration_seconds_count", operation="training", stage=stage) == 1, stage
    assert grown(worked, worker, "stage_duration_seconds_sum", operation="training", stage="training") > 0
    assert grown(worked, worker, "checkpoint_upload_duration_seconds_count", outcome="succeeded") >= 1
    # And the gateway saw it end
    assert grown(worked, "main-api", "job_attempt_duration_seconds_count", outcome="succeeded") == 1
    after = worked[1]["main-api"]
    assert sample(after, "enlight_jobs", state="queued") == sample(after, "enlight_jobs", state="running") == 0
    assert sample(after, "enlight_training_workers", state="ready") == 1


def test_figures_move_with_generations(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    service = "dreambooth-api"
    assert grown(worked, service, "pictures_total", operation="generation") == 3
    assert grown(worked, service, "batch_images_sum") == 3
    for stage in ("fetch", "queued", "run", "encode"):
        assert grown(worked, service, "stage_duration_seconds_count", operation="generation", stage=stage) >= 2, stage
        assert grown(worked, service, "stage_duration_seconds_sum", operation="generation", stage=stage) > 0, stage
    # The model came from the bucket, then it was at hand
    tiers = {tier: grown(worked, service, "model_lookups_total", tier=tier) for tier in ("resident", "host", "bucket")}
    assert tiers == {"resident": 1, "host": 0, "bucket": 1}
    assert grown(worked, "main-api", "pictures_kept_total", kind="generation") == 1


def test_figures_move_with_cut_outs_and_upscales(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    for service, operation in (("bgrem", "cutout"), ("realesrgan", "upscale")):
        assert grown(worked, service, "pictures_total", operation=operation) == 1
        for stage in ("queued", "decode", "run", "encode"):
            assert grown(worked, service, "stage_duration_seconds_count", operation=operation, stage=stage) == 1, stage
    assert grown(worked, "dashboard", "http_requests_total") >= 1


def test_figures_move_with_kept_answers(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    def lookups(route: str, result: str) -> float:
        return grown(worked, "main-api", "response_cache_lookups_total", route=route, result=result)

    for route in ("/v1/generations", "/v1/cutout"):
        assert (lookups(route, "miss"), lookups(route, "hit")) == (1, 1), route
    assert grown(worked, "main-api", "http_requests_total", rule="/v1/cutout", status="200") == 2
    # What the cache answered was not computed
    assert grown(worked, "bgrem", "http_requests_total", rule="/v1/cutout") == 1


def test_each_text_parses_and_has_what_the_documentation_says(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    for service, text in worked[1].items():
        metrics = declared()[service]
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        names = {each.name for each in samples}
        assert names <= sample_names(metrics), f"{service}: {names - sample_names(metrics)}"
        unused = {
            f"{metric.name}{suffix}"
            for metric in metrics
            if metric.kind == "histogram" and metric.labels
            for suffix in ("_bucket", "_count", "_sum")
        }
        assert sample_names(metrics) - names <= NOT_ON_A_CPU | unused, service
        # No label that a stranger could make up
        labels = {label for metric in metrics for label in metric.labels} | {"le"}
        assert {label for each in samples for label in each.labels} <= labels, service
        assert not [each for each in samples if "robbie" in str(each.labels)], service


@needs_prometheus
def test_promtool_has_nothing_to_say_about_any_text(worked: tuple[dict[str, str], dict[str, str]]) -> None:
    for service, text in worked[1].items():
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), service


class Prometheus(LocalProcess):
    """Debian's, with the configuration of monitoring/, whose targets are the running suite's."""

    def __init__(self, folder: Path, urls: Urls) -> None:
        config = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "monitoring" / name) for name in config["rule_files"]]
        for scraped in config["scrape_configs"]:
            scraped["static_configs"] = [{"targets": [urls[scraped["job_name"]].removeprefix("http://")]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            "prometheus",
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            environment=child_environment({}),
            log=folder / "prometheus.log",
            is_ready=self._is_ready,
        )

    def get(self, path: str, **query: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=query, timeout=30)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


@needs_prometheus
def test_a_real_prometheus_finds_all_targets_and_answers_the_dashboard(
    worked: tuple[dict[str, str], dict[str, str]], urls: Urls, tmp_path: Path
) -> None:
    with Prometheus(tmp_path, urls) as prometheus:

        def up() -> dict[str, str]:
            return {each["labels"]["job"]: each["health"] for each in prometheus.get("targets")["activeTargets"]}

        eventually(lambda: up() == dict.fromkeys(declared(), "up"), "all targets")
        rules = eventually(
            lambda: all_evaluated(prometheus.get("rules")), "every rule to be evaluated without an error", timeout_s=60
        )
        assert not [rule["name"] for rule in rules if rule["type"] == "alerting" and rule["state"] == "firing"]
        eventually(lambda: prometheus.get("query", query="count_over_time(up[1m]) >= 3")["result"], "a few rounds")
        dashboard = json.loads((ROOT / "monitoring/grafana/dashboards/enlight.json").read_text())
        empty = set()
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                asked = target["expr"].replace("$__rate_interval", "1m")
                if not prometheus.get("query", query=asked)["result"]:
                    empty.add(target["expr"])
        assert empty == NOT_ON_A_CPU


def all_evaluated(told: Any) -> list[dict[str, Any]] | None:
    rules = [rule for group in told["groups"] for rule in group["rules"]]
    return rules if rules and all(rule["health"] == "ok" for rule in rules) else None
