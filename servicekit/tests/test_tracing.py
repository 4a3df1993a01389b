"""Traces of a real service under gunicorn, as a real receiver of OTLP gets them, and what they cost when it is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from waiting import wait_until

from enlight.servicekit.local_process import free_port
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.settings import traces_wanted

SUPPORT = Path(__file__).parent / "support"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture(autouse=True)
def no_variables_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@contextmanager
def traced_service(folder: Path, **environment: str) -> Iterator[LocalService]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]))
        service = LocalService(
            "traced_service:create_app()",
            gunicorn_config=SUPPORT / "example_picture_gunicorn.py",
            env_prefix="EXAMPLE_",
            settings={},
            log=folder / "service.log",
        )
    with service:
        yield service


def lines(service: LocalService) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def spans_by_name(receiver: OtlpReceiver, trace_id: str, *names: str) -> dict[str, ReceivedSpan]:
    """The spans of the trace, once there is one of each name."""
    assert wait_until(lambda: {span.name for span in receiver.of_trace(trace_id)} >= set(names)), receiver.spans
    return {span.name: span for span in receiver.of_trace(trace_id)}


def test_a_request_goes_on_with_its_caller_s_trace(tmp_path: Path) -> None:
    with otlp_receiver() as receiver, traced_service(tmp_path, **receiver.environment()) as service:
        answer = requests.get(f"{service.url}/work?secret=1", headers={**SAMPLED, "X-Request-ID": "mine"}, timeout=10)
        assert requests.get(f"{service.url}/ready", timeout=10).ok
        spans = spans_by_name(receiver, TRACE, "GET /work", "call", "earlier")
        request, call, earlier = spans["GET /work"], spans["call"], spans["earlier"]
        assert (request.service, request.kind, request.parent_id, request.failed) == (
            "example",
            "server",
            PARENT,
            False,
        )
        assert request.attributes == {
            "http.request.method": "GET",
            "http.route": "/work",
            "http.response.status_code": 200,
            "enlight.request_id": "mine",
        }
        # What it does is in it, and who it calls is told so
        assert (call.kind, call.parent_id, call.attributes) == ("client", request.span_id, {"to": "somebody"})
        assert answer.json()["sent"]["traceparent"] == f"00-{TRACE}-{call.span_id}-01"
        assert answer.json()["trace_parent"] == f"00-{TRACE}-{request.span_id}-01"
        assert (earlier.parent_id, round((earlier.ended_ns - earlier.began_ns) / 1e9, 3)) == (request.span_id, 1.0)
        assert 0.9e9 < request.began_ns - earlier.ended_ns < 1.5e9
        # Log lines carry the trace's id, the request's own line too; the looks of a probe are no trace
        said = {line["message"]: line.get("trace_id") for line in lines(service)}
        assert (said["working"], said["GET /work 200"]) == (TRACE, TRACE)
        assert {span.trace_id for span in receiver.spans} == {TRACE}


def test_failures_streams_and_requests_without_a_trace(tmp_path: Path) -> None:
    with otlp_receiver() as receiver, traced_service(tmp_path, **receiver.environment()) as service:
        assert requests.get(f"{service.url}/fail", headers=SAMPLED, timeout=10).status_code == 500
        failed = spans_by_name(receiver, TRACE, "GET /fail", "doomed")
        assert {name: (span.failed, span.attributes["error.type"]) for name, span in failed.items()} == {
            "GET /fail": (True, "internal_error"),
            "doomed": (True, "RuntimeError"),
        }
        assert requests.get(f"{service.url}/stream", headers={"X-Request-ID": "s"}, timeout=10).text == "xxx"
        assert requests.get(f"{service.url}/nowhere", headers={"traceparent": "no such"}, timeout=10).status_code == 404
        assert wait_until(lambda: len(receiver.spans) == 7)
        [stream] = [span for span in receiver.spans if span.name == "GET /stream"]
        pieces = [span for span in receiver.spans if span.name == "piece"]
        assert [span.parent_id for span in pieces] == [stream.span_id] * 3
        assert stream.parent_id == ""
        assert stream.ended_ns >= max(span.ended_ns for span in pieces)
        said = [line for line in lines(service) if line["message"].startswith("piece")]
        assert {(line["request_id"], line["trace_id"]) for line in said} == {("s", stream.trace_id)}
        [nowhere] = [span for span in receiver.spans if span.name == "GET (no route)"]
        assert (nowhere.parent_id, nowhere.failed) == ("", False)


def test_which_requests_are_traced_is_the_sampler_s_and_the_caller_s_choice(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        chosen = {**receiver.environment(), "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
        with traced_service(tmp_path, **chosen) as service:
            for headers, is_sampled in (({}, False), (SAMPLED, True)):
                answer = requests.get(f"{service.url}/work", headers=headers, timeout=10)
                flags = int(answer.json()["sent"]["traceparent"][-2:], 16)
                assert flags & 1 == is_sampled
        assert {span.trace_id for span in receiver.spans} == {TRACE}


def test_what_was_not_sent_yet_is_sent_at_the_stop(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        with traced_service(tmp_path, **receiver.environment() | {"OTEL_BSP_SCHEDULE_DELAY": "600000"}) as service:
            assert requests.get(f"{service.url}/stream", headers=SAMPLED, timeout=10).ok
            assert receiver.spans == []
        assert sorted(span.name for span in receiver.spans) == ["GET /stream", "piece", "piece", "piece"]


@pytest.mark.parametrize("trouble", ["nobody listens", "refuses", "hangs"])
def test_a_receiver_that_is_away_costs_nobody_anything(tmp_path: Path, trouble: str) -> None:
    released = threading.Event()

    def answer() -> int:
        if trouble == "hangs":
            released.wait(300)
        return 503

    with otlp_receiver(answer=answer) as receiver:
        url = f"http://127.0.0.1:{free_port()}" if trouble == "nobody listens" else receiver.url
        with traced_service(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_TIMEOUT="300",
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        ) as service:
            session = requests.Session()
            for _ in range(100):
                assert session.get(f"{service.url}/work", timeout=10).status_code == 200
            if trouble != "nobody listens":
                assert wait_until(lambda: receiver.posts > 0)
            pid = service.pid
        released.set()
        # It ended by itself: neither of the two was killed for waiting, and one line says what is lost.
        bad = [line for line in lines(service) if line["level"] not in ("info", "debug")]
        assert [(line["level"], line["message"].startswith("traces are lost: ")) for line in bad] == [("warning", True)]
        assert not Path(f"/proc/{pid}").exists()


def test_a_process_that_ends_does_not_wait_for_a_receiver_that_hangs() -> None:
    program = """
from enlight.servicekit.tracing import span, start_tracing, stop_tracing
start_tracing("example")
with span("a"):
    pass
stop_tracing()
"""
    released = threading.Event()

    def answer() -> int:
        released.wait(300)
        return 200

    with otlp_receiver(answer=answer) as receiver:
        patient = {**os.environ, **receiver.environment(), "OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
        # OpenTelemetry's own limit is 30 s
        subprocess.run([sys.executable, "-c", program], env=patient, check=True, timeout=20)
        released.set()
        assert receiver.posts == 1


def test_without_the_variable_nothing_of_opentelemetry_is_imported() -> None:
    program = """
import sys
from enlight.servicekit import gunicorn, http, tracing
tracing.start_tracing("example")
with tracing.span("a") as span:
    assert (span.headers(), span.trace_parent, tracing.tracer().trace_parent()) == ({}, None, None)
tracing.stop_tracing()
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk") or "otlp" in name or "_tracer" in name]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_packages_the_service_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").touch()  # hides those that are installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    refused = r"SettingsError: OTEL_EXPORTER_OTLP_ENDPOINT is set.*enlight-servicekit\[tracing\]"
    with pytest.raises(RuntimeError, match=refused):
        traced_service(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").__enter__()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_wanted_where_a_receiver_is_named(environment: dict[str, str], wanted: bool) -> None:
    assert traces_wanted(environment) is wanted
