"""One request id and one trace, from nginx over the gateway to the last line of a trainer, over its worker's death."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests
from clients import PHOTOS, POCKET, eventually
from local_suite import LocalSuite
from nginx_front import Front, needs_nginx, nginx_before
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from training_receivers import Receiver, http_receiver

pytestmark = [needs_nginx, pytest.mark.timeout(600)]

WORKERS = ("worker", "worker-2")
TRAINED_UNDER, REPEATED_UNDER = "training-request", "repeated-request"
PROMPT = "a sks toy"
PICTURE_PATHS = ["/v1/generations", "/v1/pictures"]
CALLER = "00f067aa0ba902b7"
"""The span that the tests' requests come from."""
SETTINGS = {
    "DREAMBOOTH_API_": {"CPU_THREADS": "1"},
    "MAIN_API_": {"LEASE_S": "1", "REAP_EVERY_S": "0.2", "WEBHOOK_PRIVATE_ADDRESSES": "true"},
    "DREAMBOOTH_WORKER_": {
        "CPU_THREADS": "1",
        "LEASE_S": "1",
        "CHECKPOINT_EVERY_STEPS": "5",
        "CHECKPOINT_POLL_S": "0.1",
        "PROGRESS_EVERY_S": "0.1",
    },
}


def trace_of(request_id: str) -> str:
    """The trace that a test's request with this id is part of."""
    return sha256(request_id.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Site:
    suite: LocalSuite
    front: Front
    folder: Path
    receiver: OtlpReceiver

    @staticmethod
    def headers(request_id: str) -> dict[str, str]:
        """Those of a client that knows what it does."""
        return {"X-Request-ID": request_id, "traceparent": f"00-{trace_of(request_id)}-{CALLER}-01"}

    def ask(self, path: str, request_id: str, body: dict[str, Any], **headers: str) -> requests.Response:
        """What a POST through nginx is answered."""
        sent = self.headers(request_id) | headers
        answer = requests.post(f"{self.front.url}{path}", json=body, headers=sent, timeout=120)
        assert (answer.ok, answer.headers["X-Request-ID"]) == (True, request_id), answer.text
        return answer

    def spans(self, request_id: str, count: int) -> list[ReceivedSpan]:
        """The spans of a request's trace, the earliest first, once there are so many."""
        trace_id = trace_of(request_id)
        eventually(lambda: len(self.receiver.of_trace(trace_id)) >= count, f"{count} spans")
        return sorted(self.receiver.of_trace(trace_id), key=lambda span: span.began_ns)

    def lines(self, part: str) -> list[dict[str, Any]]:
        """The log of a part of the suite."""
        written = (self.folder / f"{part}.log").read_text().splitlines()
        return [json.loads(line) for line in written if line.startswith("{") and line.endswith("}")]

    def lines_of(self, part: str, request_id: str) -> list[dict[str, Any]]:
        """Those that carry this id."""
        return [line for line in self.lines(part) if line.get("request_id") == request_id]

    def paths_at_nginx(self, request_id: str) -> list[str]:
        """What was asked under this id, by nginx's access log."""

        def logged() -> list[str]:  # a moment after the answer is sent
            return [line["path"] for line in self.front.accesses() if line["request_id"] == request_id]

        found: list[str] = eventually(logged, "a line of nginx")
        return found

    def worker_that_said(self, message: str) -> str | None:
        """Which worker's log has a line that begins so."""
        for worker in WORKERS:
            if any(line["message"].startswith(message) for line in self.lines(worker)):
                return worker
        return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("suite")
    with (
        otlp_receiver() as receiver,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name, value in receiver.environment().items():
            environment.setenv(name, value)
        with running(folder) as (suite, front):
            yield Site(suite, front, folder, receiver)


@contextmanager
def running(folder: Path) -> Iterator[tuple[LocalSuite, Front]]:
    with (
        LocalSuite(
            folder / "data", folder, services=["dreambooth-api"], page=True, workers=2, settings=SETTINGS
        ) as suite,
        nginx_before([suite.url], folder, read_timeout_s=120, service="MAIN_API") as front,
    ):
        yield suite, front


@dataclass(frozen=True)
class Trained:
    job_id: str
    receiver: Receiver
    first_worker: str
    second_worker: str


@pytest.fixture(scope="module")
def trained(site: Site) -> Iterator[Trained]:
    """A training whose first worker was killed after a checkpoint, and that was asked for twice."""
    body = {"model_id": "toy", "instance_prompt": PROMPT, "photos": PHOTOS, "max_training_steps": 60}
    with http_receiver(200) as receiver:
        headers = {"Idempotency-Key": "once", "X-Webhook-URL": f"{receiver.url}hook"}
        job_id = site.ask("/v1/trainings", TRAINED_UNDER, body, **headers).json()["id"]
        first = eventually(lambda: site.worker_that_said("the checkpoint of update"), "a checkpoint", timeout_s=120)
        site.suite.parts[first].kill()
        assert site.ask("/v1/trainings", REPEATED_UNDER, body, **headers).json()["id"] == job_id
        eventually(lambda: receiver.received, "the end of the training, as a webhook", timeout_s=180)
        (second,) = set(WORKERS) - {first}
        yield Trained(job_id, receiver, first, second)


def test_nginx_the_gateway_and_both_workers_log_a_training_under_one_id(site: Site, trained: Trained) -> None:
    assert site.paths_at_nginx(TRAINED_UNDER) == ["/v1/trainings"]
    assert {line["message"] for line in site.lines_of("main-api", TRAINED_UNDER)} >= {
        "POST /v1/trainings 202",
        next(line["message"] for line in site.lines("main-api") if line["message"].startswith("training tr-")),
    }
    for worker in (trained.first_worker, trained.second_worker):
        lines = site.lines_of(worker, TRAINED_UNDER)
        assert {line["job_id"] for line in lines} == {trained.job_id}
        # Nothing of the job is without the id but what was said before the worker had the job's record.
        assert [line for line in site.lines(worker) if line.get("job_id") and line not in lines] == []


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("enlight.dreambooth_api.worker_job", "attempt"),
        ("enlight.dreambooth_api.checkpoint_uploads", "the checkpoint of update"),
        ("enlight.dreambooth_api.trainer", "training"),
    ],
)
def test_worker_trainer_and_uploads_carry_request_and_job_in_each_attempt(
    site: Site, trained: Trained, logger: str, message: str
) -> None:
    for worker in (trained.first_worker, trained.second_worker):
        lines = [
            line for line in site.lines(worker) if line["logger"] == logger and line["message"].startswith(message)
        ]
        assert lines, worker
        assert {(line.get("request_id"), line.get("job_id")) for line in lines} == {(TRAINED_UNDER, trained.job_id)}
    pids = {line["pid"] for line in site.lines_of(trained.second_worker, TRAINED_UNDER)}
    assert len(pids) == 2, "the worker's process and the trainer's"


def test_the_record_and_the_webhook_tell_the_first_request_s_id(site: Site, trained: Trained) -> None:
    record = requests.get(f"{site.suite.url}/v1/trainings/{trained.job_id}", timeout=30).json()
    assert (record["request_id"], record["attempt"], record["state"]) == (TRAINED_UNDER, 2, "succeeded")
    [(_, headers, body)] = trained.receiver.received
    assert headers["x-request-id"] == json.loads(body)["data"]["request_id"] == TRAINED_UNDER
    # The repetition's own id is with the repetition.
    assert site.lines_of("main-api", REPEATED_UNDER)
    assert not any(site.lines_of(worker, REPEATED_UNDER) for worker in WORKERS)


def test_a_training_is_one_trace_over_both_workers(site: Site, trained: Trained) -> None:
    spans = site.spans(TRAINED_UNDER, 6)
    [request] = [span for span in spans if span.kind == "server"]
    assert (request.service, request.name, request.parent_id) == ("main-api", "POST /v1/trainings", CALLER)
    # The attempt that was killed could not end; what it had done is there, and the next one is whole.
    [attempt] = [span for span in spans if span.kind == "consumer"]
    assert (attempt.service, attempt.parent_id, attempt.failed) == ("dreambooth-worker", request.span_id, False)
    assert attempt.attributes == {
        "enlight.training_id": trained.job_id,
        "enlight.attempt": 2,
        "enlight.request_id": TRAINED_UNDER,
    }
    stages = [span for span in spans if span.kind == "internal"]
    assert [stage.name for stage in stages] == ["prepare", "prepare", "train", "publish"]
    assert [stage.parent_id == attempt.span_id for stage in stages] == [False, True, True, True]
    for worker in WORKERS:
        assert {line.get("trace_id") for line in site.lines_of(worker, TRAINED_UNDER)} == {trace_of(TRAINED_UNDER)}


@pytest.mark.parametrize("path", PICTURE_PATHS)
def test_pictures_are_logged_and_traced_under_one_id_down_to_the_engine(site: Site, path: str) -> None:
    request_id = f"picture{path.replace('/', '-')}"
    site.ask(path, request_id, {"model_id": POCKET, "prompt": PROMPT, "num_inference_steps": 2, "seed": 1})
    assert site.paths_at_nginx(request_id) == [path]

    def rules() -> list[str]:  # a stream's line is written when its end is sent
        return [line["rule"] for line in site.lines_of("main-api", request_id) if "rule" in line]

    assert eventually(rules, "the request's line") == [path]
    lines = site.lines_of("dreambooth-api", request_id)
    assert {line["logger"] for line in lines} >= {"enlight.servicekit.http", "enlight.dreambooth_api.delivery"}
    assert len({line["pid"] for line in lines}) == 2, "the service's process and the engine's"
    assert {line["trace_id"] for line in lines} == {trace_of(request_id)}

    [asked, call, answered, *stages] = site.spans(request_id, 8)
    assert [(span.service, span.kind, span.name) for span in (asked, call, answered)] == [
        ("main-api", "server", f"POST {path}"),
        ("main-api", "client", "POST dreambooth-api"),
        ("dreambooth-api", "server", "POST /v1/generations"),
    ]
    assert [span.parent_id for span in (asked, call, answered)] == [CALLER, asked.span_id, call.span_id]
    assert [stage.name for stage in stages] == ["queued", "load weights", "denoise", "decode", "encode"]
    assert {stage.parent_id for stage in stages} == {answered.span_id}
    assert [stage.ended_ns for stage in stages[:-1]] == [stage.began_ns for stage in stages[1:]]
    assert answered.began_ns <= stages[0].began_ns < stages[-1].ended_ns <= answered.ended_ns


def test_the_page_passes_id_and_trace_on(site: Site) -> None:
    answer = requests.get(f"{site.suite.dashboard.url}/run", headers=site.headers("page"), timeout=30)
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, "page")

    def parents(service: str, kind: str) -> dict[str, str]:
        return {
            span.span_id: span.parent_id
            for span in site.receiver.of_trace(trace_of("page"))
            if (span.service, span.kind) == (service, kind)
        }

    [(shown, caller)] = eventually(lambda: parents("dashboard", "server"), "the page's span").items()
    calls = parents("dashboard", "client")
    assert (caller, set(calls.values())) == (CALLER, {shown})
    eventually(lambda: set(parents("main-api", "server").values()) == set(calls), "the spans of what it asked")
    assert len(site.lines_of("main-api", "page")) == len(calls)


def test_no_attribute_says_what_was_asked_for(site: Site, trained: Trained) -> None:
    told = [str(value) for span in site.receiver.spans for value in (span.name, *span.attributes.values())]
    assert told
    assert [text for text in told if PROMPT in text or len(text) > 100] == []
