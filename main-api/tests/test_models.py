"""``/v1/models``: what a tenant sees of its models, and that nobody else sees or changes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from embedded_servers import EmbeddedServer
from models_gateway import ModelsGateway, models_gateway
from small_models import BASE_NAME, PARAMETERS
from werkzeug.test import TestResponse

from enlight.jobkit.jobs import NewJob
from enlight.main_api.models.names import new_bucket_id
from enlight.servicekit.errors import StorageUnavailable


@pytest.fixture
def gateway(mongo: EmbeddedServer, tmp_path: Path) -> Iterator[ModelsGateway]:
    with models_gateway(mongo.url, tmp_path) as gateway:
        yield gateway


def new_job(tenant: str, model_name: str, model_id: str) -> NewJob:
    return NewJob(
        id=new_bucket_id(),
        tenant=tenant,
        model_name=model_name,
        model_id=model_id,
        request={},
        photo_keys=[],
        warnings=[],
        idempotency_key=None,
        body_digest="0",
        webhook_url=None,
    )


def test_the_list_is_one_that_openais_clients_read(gateway: ModelsGateway) -> None:
    # Given two trained models and one whose training has not ended
    gateway.train("dog")
    gateway.train("cat", kind="lora")
    gateway.names.reserve("anna", "later")
    # When they are listed
    answer = gateway.ask("GET", "/v1/models").get_json()
    # Then the list has OpenAI's shape, and says more beside it
    assert (answer["object"], answer["has_more"], answer["last_id"]) == ("list", False, "later")
    assert [row["id"] for row in answer["data"]] == ["cat", "dog", "later"]
    for row in answer["data"]:
        assert row["object"] == "model"
        assert row["owned_by"] == "anna"
        assert abs(row["created"] - datetime.now(UTC).timestamp()) < 60
    assert [row["state"] for row in answer["data"]] == ["ready", "ready", "empty"]
    assert [row["kind"] for row in answer["data"]] == ["lora", "full", None]
    assert answer["data"][0]["base_model"] == BASE_NAME


def test_the_list_comes_in_pages(gateway: ModelsGateway) -> None:
    # Given five models
    for name in "abcde":
        gateway.names.reserve("anna", name)
    # When they are read two at a time
    seen, path = [], "/v1/models?limit=2"
    for _ in range(10):
        page = gateway.ask("GET", path).get_json()
        seen.append([row["id"] for row in page["data"]])
        if not page["has_more"]:
            break
        path = f"/v1/models?limit=2&after={page['last_id']}"
    # Then each came once
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    assert gateway.ask("GET", "/v1/models", tenant="ben").get_json()["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "unknown=1"])
def test_a_wrong_query_is_refused(gateway: ModelsGateway, query: str) -> None:
    # Given a query that means nothing
    # When the list is asked for with it
    # Then it is refused
    assert gateway.ask("GET", f"/v1/models?{query}").status_code == 422


def test_a_model_says_what_it_was_made_from(gateway: ModelsGateway) -> None:
    # Given a model that was trained twice and used
    bucket_id = gateway.train("dog", seed=1)
    first = gateway.store.current_version(bucket_id)
    gateway.train("dog", seed=2)
    gateway.names.note_use(bucket_id)
    # When it is shown
    answer = gateway.ask("GET", "/v1/models/dog")
    shown = answer.get_json()
    # Then it says on what, how, how often and when
    assert shown["instance_prompt"] == "a photo of sks dog"
    assert shown["parameters"] == PARAMETERS
    assert [version["current"] for version in shown["versions"]] == [True, False]
    assert shown["versions"][1]["version"] == first
    assert shown["version"] == shown["versions"][0]["version"] != first
    assert shown["size_bytes"] == shown["versions"][0]["size_bytes"] > 0
    assert shown["last_used_at"] is not None
    # And the bucket's id, which is the server's own, is nowhere
    assert bucket_id not in answer.text
    assert bucket_id not in gateway.ask("GET", "/v1/models").text


def test_a_damaged_model_does_not_hide_the_others(gateway: ModelsGateway) -> None:
    # Given two models, one with a damaged manifest, and one version of a third that is damaged
    gateway.train("dog")
    broken = gateway.train("cat")
    partly = gateway.train("cow", seed=1)
    old = gateway.store.current_version(partly)
    gateway.train("cow", seed=2)
    for manifest in [
        *(gateway.folder / "bucket" / broken).glob("*/manifest.json"),
        gateway.folder / "bucket" / partly / old / "manifest.json",
    ]:
        manifest.write_bytes(b"damaged, and as long as a manifest might be")
    # When all are listed, and the damaged ones shown
    rows = gateway.ask("GET", "/v1/models").get_json()["data"]
    # Then each says how it is
    assert {row["id"]: row["state"] for row in rows} == {"cat": "damaged", "cow": "ready", "dog": "ready"}
    assert len(gateway.ask("GET", "/v1/models/cat").get_json()["damaged_versions"]) == 1
    shown = gateway.ask("GET", "/v1/models/cow").get_json()
    assert (len(shown["versions"]), shown["damaged_versions"]) == (1, [old])
    # And one that cannot be exported says why, in the tenant's words
    refused = gateway.ask("GET", "/v1/models/cat/export")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (503, "corrupt_model")
    assert broken not in refused.text


def test_damage_after_a_look_is_told_in_the_tenants_words(gateway: ModelsGateway) -> None:
    # Given a model that was listed, and damaged since
    bucket_id = gateway.train("dog")
    gateway.ask("GET", "/v1/models")
    for manifest in (gateway.folder / "bucket" / bucket_id).glob("*/manifest.json"):
        manifest.write_bytes(b"damaged, and as long as a manifest might be")
    # When it is shown
    answer = gateway.ask("GET", "/v1/models/dog")
    # Then the answer names it as its tenant does
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "corrupt_model")
    assert "dog" in answer.text
    assert bucket_id not in answer.text


def test_a_renamed_model_is_the_same_one(gateway: ModelsGateway) -> None:
    # Given a model
    gateway.train("dog")
    before = gateway.ask("GET", "/v1/models/dog").get_json()
    # When it gets another name
    answer = gateway.ask("POST", "/v1/models/dog/rename", json={"name": "hound"})
    # Then it is found under that name alone, and caches were told of both
    assert (answer.status_code, answer.get_json()["id"]) == (200, "hound")
    assert gateway.ask("GET", "/v1/models/hound").get_json() == {**before, "id": "hound"}
    assert gateway.ask("GET", "/v1/models/dog").status_code == 404
    assert gateway.forgotten == [("anna", "dog"), ("anna", "hound")]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"name": "cat"}, 409), ({"name": "a/b"}, 422), ({"name": 1}, 422), ({}, 422), ({"name": "x", "more": 1}, 422)],
)
def test_a_name_that_cannot_be_is_refused(gateway: ModelsGateway, body: dict[str, object], status: int) -> None:
    # Given two models
    gateway.train("dog")
    gateway.train("cat")
    # When one shall get a name that is taken, or none
    # Then that is refused
    assert gateway.ask("POST", "/v1/models/dog/rename", json=body).status_code == status
    assert gateway.ask("GET", "/v1/models/dog").status_code == 200


def test_a_removed_model_is_gone_from_everywhere(gateway: ModelsGateway) -> None:
    # Given a model with two versions, which was exported and so lies on the gateway's disk too
    bucket_id = gateway.train("dog", seed=1)
    gateway.train("dog", seed=2)
    other = gateway.train("cat")
    gateway.ask("GET", "/v1/models/dog/export").close()
    assert list((gateway.folder / "copies/models").glob(f"{bucket_id}/*"))
    # When it is removed
    answer = gateway.ask("DELETE", "/v1/models/dog")
    # Then the answer, in OpenAI's shape, says what was seen to be gone
    assert answer.status_code == 200
    assert answer.get_json() == {
        "id": "dog",
        "object": "model",
        "deleted": True,
        "verified": {"bucket_objects_left": 0, "gateway_copies_in_use": 0, "name_forgotten": True},
    }
    # And it is so
    assert gateway.objects(bucket_id) == []
    assert not list((gateway.folder / "copies/models").glob(f"{bucket_id}/*"))
    assert gateway.forgotten == [("anna", "dog")]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/export")):
        assert gateway.ask(method, f"/v1/models/dog{path}").status_code == 404
    # And the other model is as it was, and the name is free
    assert len(gateway.objects(other)) > 2
    assert gateway.names.reserve("anna", "dog") != bucket_id


def test_a_model_without_versions_can_be_removed(gateway: ModelsGateway) -> None:
    # Given a name whose training failed
    gateway.names.reserve("anna", "dog")
    # When it is removed
    # Then the name is gone
    assert gateway.ask("DELETE", "/v1/models/dog").status_code == 200
    assert gateway.ask("GET", "/v1/models").get_json()["data"] == []


@pytest.mark.parametrize("allowed", range(5))
def test_a_removal_that_broke_off_is_finished_by_the_next(gateway: ModelsGateway, allowed: int) -> None:
    # Given a removal that ends after some objects
    bucket_id = gateway.train("dog")
    objects = len(gateway.objects(bucket_id))
    gateway.bucket.allowed = allowed
    broken = gateway.ask("DELETE", "/v1/models/dog")
    if allowed >= objects:
        assert broken.status_code == 200
        return
    assert (broken.status_code, broken.get_json()["error"]["code"]) == (503, "storage_unavailable")
    # When the model is asked for
    # Then nobody gets half of it
    assert gateway.ask("GET", "/v1/models/dog").status_code == 404
    # When it is removed again
    gateway.bucket.allowed = None
    assert gateway.ask("DELETE", "/v1/models/dog").status_code == 200
    # Then all of it is gone
    assert gateway.objects(bucket_id) == []
    assert gateway.names.reserve("anna", "dog") != bucket_id


def test_a_bucket_that_keeps_what_it_should_remove_is_noticed(
    gateway: ModelsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a bucket that says that it removed an object, and did not
    bucket_id = gateway.train("dog")
    with monkeypatch.context() as patch:
        patch.setattr(gateway.bucket, "delete", lambda key: None)
        # When a model is removed
        answer = gateway.ask("DELETE", "/v1/models/dog")
    # Then nobody is told that it is gone
    assert answer.status_code == 503
    assert answer.get_json()["error"]["details"] == {"bucket_objects_left": len(gateway.objects(bucket_id))}
    assert gateway.objects(bucket_id)
    # And once the bucket works, it can be
    assert gateway.ask("DELETE", "/v1/models/dog").status_code == 200
    assert gateway.objects(bucket_id) == []


def test_a_model_in_training_is_not_removed(gateway: ModelsGateway) -> None:
    # Given a model with a waiting training, renamed since, and many trainings of another model
    bucket_id, other = gateway.train("dog"), gateway.names.reserve("anna", "cat")
    job, _ = gateway.jobs.create(new_job("anna", "dog", bucket_id))
    for _ in range(120):
        gateway.jobs.create(new_job("anna", "cat", other))
    gateway.names.rename("anna", "dog", "hound")
    # When it is removed
    refused = gateway.ask("DELETE", "/v1/models/hound")
    # Then that is refused, naming the training, and nothing happened
    assert refused.status_code == 409
    assert refused.get_json()["error"]["details"] == {"trainings": [job.id]}
    assert gateway.ask("GET", "/v1/models/hound").get_json()["state"] == "ready"
    # When the training runs, it is the same
    assert gateway.jobs.claim(job.id, "worker") is not None
    assert gateway.ask("DELETE", "/v1/models/hound").status_code == 409
    # When it ended
    gateway.jobs.cancelled(job.id, 1)
    # Then the model can go
    assert gateway.ask("DELETE", "/v1/models/hound").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/v1/models/dog", {}),
        ("POST", "/v1/models/dog/rename", {"json": {"name": "mine"}}),
        ("DELETE", "/v1/models/dog", {}),
        ("GET", "/v1/models/dog/export", {}),
        ("GET", "/v1/models/dog/export?format=safetensors", {}),
    ],
)
def test_anothers_model_is_a_404(gateway: ModelsGateway, method: str, path: str, more: dict[str, Any]) -> None:
    # Given a model of one tenant
    bucket_id = gateway.train("dog", kind="lora")
    # When another asks for it by its name, or by its id in the bucket
    theirs = gateway.ask(method, path, tenant="ben", **more)
    by_id = gateway.ask(method, path.replace("dog", bucket_id), tenant="ben", **more)
    nobodys = gateway.ask(method, path, tenant="carl", **more)
    # Then the answer is that of a model that nobody has, and nothing happened
    for answer in (theirs, by_id, nobodys):
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not_found")
    assert theirs.get_json()["message"] == nobodys.get_json()["message"]
    assert gateway.ask("GET", "/v1/models/dog").get_json()["state"] == "ready"
    # And the owner cannot use the bucket's id as a name either
    assert gateway.ask(method, path.replace("dog", bucket_id), **more).status_code == 404


def test_a_bucket_that_is_away_is_one_error(gateway: ModelsGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a bucket that does not answer
    gateway.train("dog")

    def fail(*arguments: object, **more: object) -> object:
        raise StorageUnavailable("The bucket is away.")

    monkeypatch.setattr(gateway.store, "current_version", fail)
    # When models are asked for
    asks: list[Callable[[], TestResponse]] = [
        lambda: gateway.ask("GET", "/v1/models"),
        lambda: gateway.ask("GET", "/v1/models/dog"),
        lambda: gateway.ask("GET", "/v1/models/dog/export"),
    ]
    # Then it says so
    for ask in asks:
        answer = ask()
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"]


def test_the_routes_are_described(gateway: ModelsGateway) -> None:
    # Given the service's description
    document = gateway.ask("GET", "/openapi.json").get_json()
    # When the routes of models are looked up
    described = {path for path in document["paths"] if path.startswith("/v1/models")}
    # Then all are there, with the bytes that an import takes
    assert described == {
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/models/{model_id}/rename",
        "/v1/models/{model_id}/export",
        "/v1/models/import",
    }
    assert "application/zip" in json.dumps(document["paths"]["/v1/models/import"]["post"]["requestBody"])
