"""Following a training by server-sent events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from embedded_servers import EmbeddedServer, mongo_server
from training_gateway import Connections, Gateway, OpenGateway, gateway
from training_streams import Event, follow
from waiting import wait_until

from enlight.dreambooth_api import training_events
from enlight.jobkit.jobs import Job

pytest_plugins = ["training_fixtures"]


def progress(step: int) -> dict[str, Any]:
    return {"phase": "training", "step": step, "steps": 10, "loss": 0.5}


def test_a_training_is_followed_from_its_place_in_the_queue_to_its_end(gate: Gateway) -> None:
    job_id = gate.start("chair")
    events = follow(gate, job_id)
    assert next(events) == Event(1, "state", {"state": "queued"})
    job = gate.claim(job_id)
    assert next(events)[1:] == ("state", {"state": "running", "attempt": 1})
    gate.store.renew(job_id, job.attempt, progress(1))
    assert next(events)[1:] == ("progress", progress(1))
    gate.store.renew(job_id, job.attempt, progress(2))
    assert next(events)[1:] == ("progress", progress(2))
    gate.store.commit(job_id, job.attempt, "v3")
    gate.store.succeed(job_id, job.attempt, {"version": "v3"})
    end = {"state": "succeeded", "model_id": "chair", "model_version": "v3"}
    assert [event[1:] for event in events] == [("state", end)]


def test_a_reader_that_comes_back_gets_what_it_missed_and_nothing_twice(gate: Gateway) -> None:
    job_id = gate.start()
    job = gate.claim(job_id)
    gate.store.renew(job_id, job.attempt, progress(1))
    first = follow(gate, job_id)
    seen = [next(first), next(first)]
    assert [event.name for event in seen] == ["state", "progress"]
    revision = gate.store.get("acme", job_id).revision
    assert [event.id for event in seen] == [revision - 1, revision]
    # Whoever is cut off between the two gets both again
    again = follow(gate, job_id, seen[0].id)
    assert [next(again), next(again)] == seen
    # Whoever has both waits for the next
    gate.store.renew(job_id, job.attempt, progress(2))
    after = follow(gate, job_id, seen[1].id)
    missed = [next(after), next(after)]
    assert missed[1] == Event(revision + 1, "progress", progress(2))
    # At the end there is the end, and for who knows it nothing more
    gate.store.fail(job_id, job.attempt, {"code": "job_failed", "message": "It diverged.", "details": {}})
    assert list(after)[-1].data == {"state": "failed", "error": {"code": "job_failed", "message": "It diverged."}}
    assert list(follow(gate, job_id, gate.store.get("acme", job_id).revision)) == []


def test_an_id_of_another_stream_starts_anew_and_a_foreign_one_is_refused(gate: Gateway) -> None:
    job_id = gate.start()
    assert next(follow(gate, job_id, 999_999)).data == {"state": "queued"}
    assert_error(gate.get(f"/v1/trainings/{job_id}/events", Last_Event_ID="x"), 400, "invalid_request")


def test_streams_are_bounded_and_give_back_their_place(open_gateway: OpenGateway) -> None:
    with open_gateway(max_event_streams=2) as gate:
        job_id = gate.start()
        streams = [follow(gate, job_id) for _ in range(2)]
        for stream in streams:
            next(stream)
        assert_error(gate.get(f"/v1/trainings/{job_id}/events"), 503, "queue_full")
        # When one client leaves
        assert isinstance(streams[0], Iterator)
        streams.pop().close()  # type: ignore[attr-defined]
        # Then there is a place, and nobody looks for who left
        streams.append(follow(gate, job_id))
        next(streams[-1])
        assert gate.service.watcher.watched_count == 2
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
        assert gate.service.watcher.watched_count == 0


def test_a_silent_stream_is_kept_alive(gate: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_events, "KEEP_ALIVE_S", 0.05)
    job_id = gate.start()
    response = gate.get(f"/v1/trainings/{job_id}/events")
    with closing(response):
        blocks = response.iter_encoded()
        assert [next(blocks)[:1], next(blocks), next(blocks)] == [b"i", b": keep-alive\n\n", b": keep-alive\n\n"]


def test_a_deleted_training_ends_its_stream(gate: Gateway) -> None:
    job_id = gate.start()
    events = follow(gate, job_id)
    next(events)
    gate.database["jobs"].delete_one({"_id": job_id})
    assert list(events) == []


def test_the_stop_of_the_gateway_ends_streams(gate: Gateway) -> None:
    job_id = gate.start()
    events = follow(gate, job_id)
    next(events)
    gate.service.stop()
    assert list(events) == []


def test_one_question_serves_all_readers(gate: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    find_many = gate.service.watcher._find_many

    def noting(ids: Sequence[str]) -> Mapping[str, Job]:
        asked.append(list(ids))
        return find_many(ids)

    monkeypatch.setattr(gate.service.watcher, "_find_many", noting)
    ids = [gate.start(f"m{number}") for number in range(3)]
    readers = [follow(gate, job_id) for job_id in ids for _ in range(4)]
    for reader in readers:
        next(reader)
    rounds = len(asked)
    assert wait_until(lambda: len(asked) > rounds + 1)
    # Each question names each training once, however many read it
    assert sorted(asked[-1]) == sorted(ids)
    for reader in readers:
        reader.close()  # type: ignore[attr-defined]


def test_a_stream_outlives_its_database(tmp_path: Path, queue: EmbeddedServer) -> None:
    with mongo_server(tmp_path / "mongo") as mongo:
        connections = Connections(mongo.url, queue.url, tmp_path)
        with gateway(connections) as gate:
            job_id = gate.start()
            events = follow(gate, job_id)
            next(events)
            # When the database is gone for a while, and the training goes on after it
            mongo.kill()
            mongo.start()
            assert wait_until(lambda: _answers(gate), 30)
            gate.succeed(job_id)
            # Then the stream tells
            assert list(events)[-1].data["state"] == "succeeded"


def _answers(gate: Gateway) -> bool:
    return gate.get("/v1/trainings").status_code == 200
