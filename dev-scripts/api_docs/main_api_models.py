"""main-api: models, keys and use."""

from __future__ import annotations

from api_docs.errors import NO_WEIGHTS
from api_docs.route import Errors, Route

from enlight.servicekit.errors import Conflict, CorruptModel, Forbidden, NotFound, QueueFull, StorageFull

_MODEL = (
    '{"id": "curl-robot", "object": "model", "created": 1795397124, "owned_by": "local", "state": "ready", '
    '"version": "...", "kind": "full", "base_model": "enlight/pocket", "size_bytes": 14300388'
)
_KEY = '{"id": "3f...", "tenant": "my-lab", "scope": "user", "name": "notebook", "revoked_at": null'
_NO_MODEL: Errors = ((NotFound, "no such model"),)
_NO_KEY: Errors = ((NotFound, "no such key, it is revoked, or it is not yours"),)
_NO_ROOM: Errors = (
    (QueueFull, "as many exports and imports as may are under way"),
    (StorageFull, "on the gateway's disk"),
)

MODELS: tuple[Route, ...] = (
    Route(
        "GET /v1/models",
        """
        curl -sS "$API/v1/models?limit=20"
        """,
        """
        requests.get(f"{API}/v1/models", params={"limit": 20}).json()
        """,
        '{"object": "list", "data": [' + _MODEL + '}], "has_more": false, "last_id": "curl-robot"}',
    ),
    Route(
        "GET /v1/models/{model_id}",
        """
        curl -sS $API/v1/models/curl-robot
        """,
        """
        requests.get(f"{API}/v1/models/python-robot").json()
        """,
        _MODEL + ', "instance_prompt": "a sks robot", "parameters": {"max_training_steps": 10}, '
        '"versions": [{"version": "...", "current": true}], "damaged_versions": []}',
        errors=_NO_MODEL,
    ),
    Route(
        "POST /v1/models/{model_id}/rename",
        """
        curl -sS $API/v1/models/curl-robot/rename -H 'Content-Type: application/json' -d '{"name": "curl-android"}'
        """,
        """
        requests.post(f"{API}/v1/models/python-robot/rename", json={"name": "python-android"}).json()
        """,
        _MODEL.replace("curl-robot", "curl-android") + "}",
        errors=(*_NO_MODEL, (Conflict, "another model has this name")),
    ),
    Route(
        "GET /v1/models/{model_id}/export",
        """
        curl -sS $API/v1/models/curl-android/export -o curl-android.zip
        """,
        """
        export = requests.get(f"{API}/v1/models/python-android/export").content
        """,
        errors=(*_NO_MODEL, *_NO_ROOM, (CorruptModel, "")),
    ),
    Route(
        "DELETE /v1/models/{model_id}",
        """
        curl -sS -X DELETE $API/v1/models/curl-android
        """,
        """
        requests.delete(f"{API}/v1/models/python-android").json()
        """,
        '{"id": "curl-android", "object": "model", "deleted": true, "verified": '
        '{"bucket_objects_left": 0, "gateway_copies_in_use": 0, "name_forgotten": true}}',
        errors=(*_NO_MODEL, (Conflict, "it is being trained")),
    ),
    Route(
        "POST /v1/models/import",
        """
        curl -sS "$API/v1/models/import?name=curl-robot" \\
          -H 'Content-Type: application/zip' --data-binary @curl-android.zip
        """,
        """
        headers = {"Content-Type": "application/zip"}
        requests.post(f"{API}/v1/models/import?name=python-robot", data=export, headers=headers).json()
        """,
        _MODEL + "}",
        errors=((Conflict, "there is a model of this name"), *_NO_ROOM, *NO_WEIGHTS),
    ),
)

KEYS: tuple[Route, ...] = (
    Route(
        "GET /v1/me",
        """
        curl -sS $API/v1/me
        """,
        """
        requests.get(f"{API}/v1/me").json()
        """,
        '{"tenant": "my-lab", "scope": "user", "key_id": "...", '
        '"limits": {"requests_per_minute": 600, "gpu_seconds_per_hour": null, "pictures": 10000}}',
    ),
    Route(
        "POST /v1/keys",
        """
        curl -sS $API/v1/keys -H 'Content-Type: application/json' \\
          -d '{"tenant": "my-lab", "name": "notebook"}' > key.json
        key_id=$(answer '["id"]' < key.json)
        """,
        """
        key = requests.post(f"{API}/v1/keys", json={"tenant": "my-lab", "name": "notebook"}).json()
        """,
        _KEY + ', "key": "enl_..."}',
        errors=((Forbidden, "your key's scope is not `admin`"),),
    ),
    Route(
        "GET /v1/keys",
        """
        curl -sS "$API/v1/keys?tenant=my-lab"
        """,
        """
        requests.get(f"{API}/v1/keys", params={"tenant": "my-lab"}).json()
        """,
        '{"keys": [' + _KEY + "}]}",
    ),
    Route(
        "POST /v1/keys/{key_id}/rotate",
        """
        curl -sS -X POST $API/v1/keys/$key_id/rotate
        """,
        """
        requests.post(f"{API}/v1/keys/{key['id']}/rotate").json()
        """,
        _KEY + ', "key": "enl_..."}',
        errors=_NO_KEY,
    ),
    Route(
        "DELETE /v1/keys/{key_id}",
        """
        curl -sS -X DELETE $API/v1/keys/$key_id
        """,
        """
        requests.delete(f"{API}/v1/keys/{key['id']}").json()
        """,
        _KEY.replace("null", '"2026-11-26T22:39:41+00:00"') + "}",
        errors=_NO_KEY,
    ),
)

USAGE: tuple[Route, ...] = (
    Route(
        "GET /v1/usage",
        """
        curl -sS $API/v1/usage
        """,
        """
        requests.get(f"{API}/v1/usage").json()
        """,
        '{"tenant": "local", "first_day": "2026-10-28", "last_day": "2026-11-26", '
        '"total": {"requests": 12, "gpu_seconds": 3.5, "received_bytes": 190021, "sent_bytes": 2119024}, '
        '"usage": [{"day": "2026-11-26", "route": "/inference", "requests": 1, "gpu_seconds": 0.5}]}',
        errors=((Forbidden, "another tenant's, and your key's scope is not `admin`"),),
    ),
)
