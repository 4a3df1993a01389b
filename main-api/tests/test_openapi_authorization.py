"""Who may do what, on every route that the OpenAPI document describes: the walk is made from the document.

A route that is added is walked by itself; one that the walk cannot fill fails it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from described_requests import FILE, METHODS, Described, committed_document, described
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from photo_zips import zip_of_photos
from small_models import publish, write_lora
from stand_in_service import http, json_http
from training_gateway import training_body
from werkzeug.test import TestResponse

from enlight.dreambooth_api.training_jobs import new_job_id
from enlight.jobkit.jobs import JobSample, sample_key
from enlight.main_api.adapters.openai.files.records import new_file_id
from enlight.main_api.gallery.files import PictureFiles
from enlight.main_api.gallery.gallery import Gallery, NewPicture
from enlight.main_api.gallery.records import PictureRecords, new_picture_id
from enlight.main_api.keys.key_format import new_key
from enlight.main_api.settings import Settings
from enlight.main_api.stores import Stores
from enlight.main_api.webhooks.webhooks import event_id
from enlight.servicekit.http_docs import operations_of
from enlight.servicekit.schemas import EXAMPLE_PICTURE

OPERATIONS = described(committed_document())
WITH_KEY = [operation for operation in OPERATIONS if operation.needs_key]
OF_ONE_THING = [operation for operation in WITH_KEY if operation.parameters("path")]
OF_NOTHING = [operation for operation in WITH_KEY if not operation.parameters("path")]
PATHS = sorted({operation.path for operation in WITH_KEY})
OPEN = {"/", "/live", "/ready", "/metrics", "/docs", "/docs/page.css", "/docs/page.js", "/openapi.json"} | {
    "/v1/images/files/{picture_id}"  # whose address is signed
}
"""Paths that need no key, written down here once more: to open another one takes two changes."""
ONLY_REFUSED = {"openai_refuse_variations", "pause_fine_tuning_job", "resume_fine_tuning_job"}
"""Operations that other services have and this one has not."""
STATUS_OF_A_BAD_FIELD = {"OpenAIError": 400}
"""By the name of the errors; 422 of all others."""
IGNORING = {"TextToImageBody", "ImageToImageBody", "ExtraSingleBody", "ExtraBatchBody", "NamedPicture"}
"""Bodies whose unknown fields are ignored: A1111's, as its own server does."""
ADMINS_REACH = {"key_id"}
"""Things of other tenants that an admin may change."""


@dataclass(frozen=True)
class Things:
    """What a tenant has: by the names of the parameters that name one, and what else of it nobody else may see."""

    by_parameter: Mapping[str, str]
    hidden: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        values = [value for name, value in self.by_parameter.items() if name != "step"]  # a number is nobody's
        return [*values, *self.hidden]


@dataclass
class Walk:
    """The gateway, and whoever asks it."""

    app: OpenAPI
    settings: Settings
    folder: Path
    owner: FlaskClient
    stranger: FlaskClient
    admin: FlaskClient
    """Of the strangers' tenant."""
    invalid: Mapping[str, str]
    """Keys that are none, or no more."""

    def things(self) -> Things:
        """A training, a model, a file, a key and a webhook of the owner, made now."""
        mark = secrets.token_hex(6)
        name, prompt, url = f"Model-{mark}", f"a sks hidden{mark}", f"https://example.com/{mark}"
        training = self.owner.post(
            "/v1/trainings",
            json=training_body(f"Trained-{mark}", instance_prompt=prompt),
            headers={"X-Webhook-URL": url},
        )
        assert training.status_code == 202, training.text
        upload = {"purpose": "fine-tune", "file": (io.BytesIO(zip_of_photos()), f"{mark}.zip")}
        file = self.owner.post("/v1/files", data=upload)
        assert file.status_code == 200, file.text
        key = self.admin.post("/v1/keys", json={"tenant": OWNER, "name": f"Key-{mark}"})
        assert key.status_code == 201, key.text
        with opened(self.settings) as stores:
            bucket_id = stores.names.reserve(OWNER, name)
            publish(stores.models, bucket_id, write_lora(self.folder / mark, seed=1), "lora")
            gallery = Gallery(PictureRecords(stores.database), PictureFiles(stores.pictures), max_pictures=1000)
            training_id = _json(training)["id"]
            _add_sample(stores, training_id)
            picture = gallery.keep(OWNER, NewPicture("generation", PICTURE, "image/png", {"prompt": prompt}, name))
        things = {
            "training_id": training_id,
            "step": STEP,
            "model_id": name,
            "key_id": _json(key)["id"],
            "delivery_id": event_id(training_id),
            "picture_id": picture.id,
            "fine_tuning_job_id": training_id,
            "file_id": _json(file)["id"],
        }
        return Things(
            things, (OWNER, f"{mark}.zip", f"Trained-{mark}", prompt, url, bucket_id, f"Key-{mark}", _json(key)["key"])
        )


def _add_sample(stores: Stores, training_id: str) -> None:
    """What a worker does, which then gives the training back."""
    job = stores.jobs.claim(training_id, "worker")
    assert job is not None
    sample = JobSample(int(STEP), job.attempt, 1.0, len(PICTURE), hashlib.sha256(PICTURE).hexdigest())
    stores.job_objects.put_bytes(sample_key(training_id, sample), PICTURE)
    stores.jobs.add_sample(training_id, job.attempt, sample)
    stores.jobs.release(training_id, job.attempt)


PICTURE = base64.b64decode(EXAMPLE_PICTURE)
STEP = "20"
OWNER, STRANGER = f"owner-{secrets.token_hex(4)}", f"stranger-{secrets.token_hex(4)}"


def nobodys_things() -> dict[str, str]:
    """Names in the form of those of `Walk.things`, of nothing."""
    training_id = new_job_id()
    return {
        "training_id": training_id,
        "step": STEP,
        "model_id": f"Model-{secrets.token_hex(6)}",
        "key_id": secrets.token_hex(8),
        "delivery_id": event_id(training_id),
        "picture_id": new_picture_id(),
        "fine_tuning_job_id": training_id,
        "file_id": new_file_id(),
    }


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("walk")) as servers:
        for name in ("bgrem", "realesrgan"):
            servers.behind[name].answer = lambda seen: (
                http(PICTURE, content_type="image/png") if seen.path.startswith("/v1/") else json_http({})
            )
        yield servers


@pytest.fixture(scope="module")
def walk(around: Surroundings) -> Iterator[Walk]:
    settings = around.settings(max_queued_trainings=1000)
    with gateway(settings) as app:
        admin = client_of(app, make_key(settings, STRANGER, "admin"))
        revoked, rotated = (_json(admin.post("/v1/keys", json={"tenant": OWNER})) for _ in range(2))
        assert admin.delete(f"/v1/keys/{revoked['id']}").status_code == 200
        assert admin.post(f"/v1/keys/{rotated['id']}/rotate").status_code == 200
        invalid = {
            "none": "",
            "malformed": "enl_",
            "of an unknown id": new_key().text,
            "with another secret": make_key(settings, OWNER)[:-43] + new_key().secret,
            "revoked": revoked["key"],
            "renewed": rotated["key"],
        }
        owner, stranger = client_of(app, make_key(settings, OWNER)), client_of(app, make_key(settings, STRANGER))
        yield Walk(app, settings, around.folder / "walk", owner, stranger, admin, invalid)


@pytest.fixture(scope="module")
def owned(walk: Walk) -> Things:
    """What stays the owner's, whoever asks for it."""
    return walk.things()


# The document


def test_what_is_served_is_what_is_committed(walk: Walk) -> None:
    served = _json(walk.app.test_client().get("/openapi.json"))
    assert served == committed_document(), f"{FILE.name} is not what the gateway says: run `make docs`"


def test_every_route_is_in_the_document_and_nothing_else(walk: Walk) -> None:
    routes = {
        (re.sub("<(.+?)>", r"{\1}", rule.rule), method.lower())
        for rule in walk.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations_of(committed_document())} == routes
    assert {operation.path for operation in OPERATIONS if not operation.needs_key} == OPEN


def test_every_operation_says_what_it_is(walk: Walk) -> None:
    for operation in OPERATIONS:
        assert operation.operation["summary"], operation
        assert operation.operation["operationId"], operation
        good = {status for status in operation.statuses if status < 300}
        assert len(good) == (operation.operation["operationId"] not in ONLY_REFUSED), operation
        if operation.needs_key:
            assert operation.statuses >= {401, 429, 503}, operation
            assert operation.operation["description"], operation
        bad_field = STATUS_OF_A_BAD_FIELD.get(operation.errors, 422) if operation.needs_key else 422
        if operation.needs_key and operation.parameters("path"):
            assert operation.statuses >= {404, bad_field}, operation
        if operation.has_body and operation.operation["operationId"] not in ONLY_REFUSED:
            assert operation.statuses >= {400, 413, 415, bad_field}, operation
    names = [operation.operation["operationId"] for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_name_in_a_path_is_one_that_an_answer_gives() -> None:
    # Links say where a name comes from: a new kind of thing needs one, from what makes it or lists it.
    links = [
        (link["operationId"], parameter)
        for operation in OPERATIONS
        for answer in operation.operation["responses"].values()
        for link in answer.get("links", {}).values()
        for parameter in link["parameters"]
    ]
    names = {operation.operation["operationId"]: operation.parameters("path") for operation in OPERATIONS}
    assert {(target, parameter) for target, parameters in names.items() for parameter in parameters} == set(links)


def test_what_the_gateway_itself_answers_is_closed() -> None:
    # Objects in an answer name all of their fields; those that do not say so.
    schemas = committed_document()["components"]["schemas"]
    objects = {name for name, schema in schemas.items() if schema.get("type") == "object"}
    assert objects == set(schemas)
    is_open = {name for name, schema in schemas.items() if schema.get("additionalProperties") is not False}
    assert is_open == IGNORING


# No key


@pytest.fixture(scope="module")
def refusals(walk: Walk) -> Mapping[str, str]:
    """What is said to somebody without a key, by the name of the errors: of the suite for a path of nothing."""
    asked = {operation.errors: operation for operation in OF_NOTHING}
    client = walk.app.test_client()
    told = {name: _without_ids(client.open(each.path, method=each.method)) for name, each in asked.items()}
    return {**told, "Error": _without_ids(client.get("/nowhere"))}


@pytest.mark.parametrize("path", PATHS)
def test_without_a_valid_key_there_is_nothing(
    walk: Walk, owned: Things, refusals: Mapping[str, str], path: str
) -> None:
    # Given a path of something that is there, and keys that are not valid
    url = path.format(**owned.by_parameter)
    told = set()
    for kind, key in walk.invalid.items():
        for method in METHODS:
            for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": basic(key)}, {"X-API-Key": key}):
                # When it is asked for, in any way
                answer = walk.app.test_client().open(url, method=method, headers=headers)
                # Then it is a 401 that says no more than for any other path with errors in this shape
                assert answer.status_code == 401, f"{kind} key, {method} {url}: {answer.status_code}"
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                told.add(_without_ids(answer))
    of_no_route = refusals["Error"]  # by a method that the path does not take, no route is asked
    (errors,) = {operation.errors for operation in WITH_KEY if operation.path == path}
    assert told <= {refusals[errors], of_no_route, ""}  # HEAD has no body
    assert refusals[errors] in told


@pytest.mark.parametrize("operation", [each for each in WITH_KEY if each.has_body], ids=str)
@pytest.mark.parametrize("kind", ["too long", "chunked", "compressed"])
def test_no_body_is_looked_at_before_the_key(walk: Walk, owned: Things, operation: Described, kind: str) -> None:
    # Given a body that would be refused, and that notes when it is read
    body = NotedBody()
    heads: dict[str, dict[str, Any]] = {
        "too long": {"CONTENT_LENGTH": str(1 << 40)},
        "chunked": {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
        "compressed": {"CONTENT_LENGTH": "100", "HTTP_CONTENT_ENCODING": "gzip"},
    }
    request = {
        "path": operation.path.format(**owned.by_parameter),
        "method": operation.method,
        "content_type": next(iter(operation.operation["requestBody"]["content"])),
        "environ_overrides": {"wsgi.input": body, **heads[kind]},
    }
    # When it comes without a valid key
    for key in walk.invalid.values():
        answer = client_of(walk.app, key).open(**request)
        # Then the key is what is wrong, and nothing was read
        assert answer.status_code == 401
    assert not body.was_read
    # And with a key it is the body
    if kind != "chunked":
        answer = walk.owner.open(**request)
        assert answer.status_code == {"too long": 413, "compressed": 415}[kind], answer.text


class NotedBody(io.RawIOBase):
    """A body that is there for whoever reads it, and knows whether anybody did."""

    was_read = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.was_read = True
        return 0


# Another tenant's key


@pytest.mark.parametrize("operation", OF_ONE_THING, ids=str)
def test_what_is_another_tenant_s_is_not_there(walk: Walk, owned: Things, operation: Described) -> None:
    # Given a thing of the owner, and a name of nothing
    parameter, *_ = operation.parameters("path")
    nothing = nobodys_things()
    askers = [walk.stranger, *([] if parameter in ADMINS_REACH else [walk.admin])]
    for method in [operation.method, *(["HEAD"] if operation.method == "GET" else [])]:
        for asker in askers:
            # When others ask for both
            theirs = asker.open(**{**operation.request(owned.by_parameter), "method": method})
            nobodys = asker.open(**{**operation.request(nothing), "method": method})
            # Then both are not there, and nothing tells them apart
            assert theirs.status_code == nobodys.status_code == 404
            assert _without_ids(theirs, owned.by_parameter[parameter]) == _without_ids(nobodys, nothing[parameter])
            assert _headers(theirs) == _headers(nobodys)
            _assert_nothing_of(owned, theirs, but=owned.by_parameter[parameter])
    # And it is as it was
    for path in ("/v1/trainings/{training_id}", "/v1/models/{model_id}"):
        assert walk.owner.get(path.format(**owned.by_parameter)).status_code == 200
    assert owned.by_parameter["key_id"] in walk.owner.get("/v1/keys").text


@pytest.mark.parametrize("operation", OF_ONE_THING, ids=str)
def test_what_is_one_s_own_is_there(walk: Walk, operation: Described) -> None:
    # Given things that the operation may change or remove
    things = walk.things()
    # When their owner asks
    answer = walk.owner.open(**operation.request(things.by_parameter), buffered=False)
    # Then it is done, or not possible now
    assert answer.status_code in operation.statuses
    assert answer.status_code < 300 or answer.status_code == 409, answer.text
    answer.close()


@pytest.mark.parametrize("operation", OF_NOTHING, ids=str)
def test_a_tenant_is_told_nothing_of_another(walk: Walk, owned: Things, operation: Described) -> None:
    # Given requests that name no thing of the owner, and those that name one wherever a text may stand
    texts = [name for name, schema in operation.parameters("query").items() if schema.get("type") == "string"]
    asked: list[tuple[dict[str, Any], str]] = [(operation.request({}), "")]
    for value in (*owned.by_parameter.values(), OWNER):
        asked += [(operation.request({}, query={name: value}), value) for name in texts]
    body = asked[0][0].get("json", {})
    model = owned.by_parameter["model_id"]
    for name in set(operation.body_fields()) & {"model_id", "model"}:
        asked.append((asked[0][0] | {"json": {**body, name: model}}, model))
    # When somebody sends them who has not named any of these things before: errors of one's own are told of
    newcomer = client_of(walk.app, make_key(walk.settings, f"newcomer-{secrets.token_hex(4)}"))
    for request, sent in asked:
        answer = newcomer.open(**request)
        # Then the answer is one that the document knows, with nothing of the owner in it
        assert answer.status_code in operation.statuses, f"{request}: {answer.status_code} {answer.text}"
        _assert_nothing_of(owned, answer, but=sent)


@pytest.mark.parametrize("path", ["/inference", "/v1/generations"])
def test_another_tenant_s_model_makes_no_pictures(walk: Walk, owned: Things, path: str) -> None:
    (operation,) = [each for each in OPERATIONS if each.path == path]
    for asker, status in ((walk.stranger, 404), (walk.admin, 404), (walk.owner, 200)):
        request = operation.request({})
        request["json"]["model_id"] = owned.by_parameter["model_id"]
        assert asker.open(**request).status_code == status


# Scopes


@pytest.mark.parametrize("operation", WITH_KEY, ids=str)
def test_a_user_s_key_is_refused_where_the_document_says_so_and_nowhere_else(walk: Walk, operation: Described) -> None:
    # Given the request as it is, and with another tenant named where one can be
    things = walk.things().by_parameter
    requests = [operation.request(things)]
    if "tenant" in operation.parameters("query"):
        requests.append(operation.request(things, query={"tenant": OWNER}))
    # When a user and an admin of one tenant send them
    users = {walk.stranger.open(**request, buffered=False).status_code for request in requests}
    admins = {walk.admin.open(**request, buffered=False).status_code for request in requests}
    # Then only the user is refused, where the document says that somebody is
    assert 403 not in admins
    assert (403 in users) == (403 in operation.statuses)


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"user:{key}".encode()).decode()


def _json(answer: TestResponse) -> dict[str, Any]:
    body = answer.json
    assert isinstance(body, dict), answer.text
    return body


def _without_ids(answer: TestResponse, sent: str = "") -> str:
    """The answer's body without what is of this request alone."""
    text = answer.text.replace(answer.headers["X-Request-ID"], "")
    return text.replace(sent, "") if sent else text


def _headers(answer: TestResponse) -> dict[str, str]:
    """Without those that differ between any two answers whose names differ in length."""
    own = {"X-Request-ID", "Content-Length", "Date"}
    return {name: value for name, value in answer.headers.items() if name not in own}


def _assert_nothing_of(things: Things, answer: TestResponse, *, but: str) -> None:
    """None of the owner's names is in the answer, but for the one that was sent."""
    told = f"{answer.headers}{answer.data.decode(errors='replace')}"
    if but:
        told = told.replace(but, "")
    assert [name for name in things.names if name in told] == [], told
