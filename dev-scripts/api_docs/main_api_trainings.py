"""main-api: trainings and webhooks."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BEHIND, FOLLOWING, NO_TRAINING
from api_docs.route import Route, Topic
from api_docs.start import NOBODYS_PORT, WEBHOOK_PORT

from enlight.servicekit.errors import Conflict, JobCancelled, JobFailed, NotFound, QueueFull, QuotaExceeded

_TRAINING = (
    '{"id": "tr-...", "state": "queued", "model_id": "curl-robot", "model_version": null, "attempt": 0, '
    '"position": 0, "progress": null, "error": null, "warnings": [], "parameters": {"max_training_steps": 10}}'
)

TRAIN = Route(
    "POST /train",
    """
    curl -sS $API/train -H 'Content-Type: application/json' -d @- <<EOF
    {"INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": "curl-robot", "IMAGE_LIST": $photos,
     "MAX_TRAINING_STEPS": 10, "LR": 1e-4}
    EOF
    """,
    """
    body = {"INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": "python-robot", "IMAGE_LIST": photos,
            "MAX_TRAINING_STEPS": 10, "LR": 1e-4}
    requests.post(f"{API}/train", json=body).json()
    """,
    '{"message": "Training is done.", "model_id": "curl-robot"}',
    more="The 10 steps of the examples take seconds and teach next to nothing; `GET /v1/base-models` tells how many a "
    "good model needs.",
    errors=(
        *BAD_PICTURE,
        (Conflict, "the model is being removed"),
        (JobCancelled, ""),
        (NotFound, "somebody deleted the training"),
        (QuotaExceeded, "as many trainings of yours wait and run as may"),
        (JobFailed, ""),
        (QueueFull, "too many trainings wait, or too many clients"),
    ),
)

TRAININGS: tuple[Route | Topic, ...] = (
    Route(
        "POST /v1/photos/check",
        """
        curl -sS $API/v1/photos/check -H 'Content-Type: application/json' -d @- <<EOF
        {"photos": $photos}
        EOF
        """,
        """
        requests.post(f"{API}/v1/photos/check", json={"photos": photos}).json()
        """,
        '{"ok": true, "base_model": "enlight/pocket", "resolution": 64, '
        '"photos": [{"width_px": 256, "height_px": 256, "warnings": []}], "warnings": []}',
        more="`POST /v1/trainings` answers and records the same warnings, `POST /train` answers their messages. Blur "
        "is judged at the training's resolution: a large soft photo may be sharp at 64 pixels.",
        errors=(*BAD_PICTURE, *BEHIND),
    ),
    Route(
        "GET /v1/base-models",
        """
        curl -sS $API/v1/base-models
        """,
        """
        requests.get(f"{API}/v1/base-models").json()
        """,
        '{"default": "enlight/pocket", "base_models": [{"name": "enlight/pocket", "weights_here": true, '
        '"native_size_px": 64, "recommended_preset": "full", '
        '"presets": [{"name": "full", "description": "...", "parameters": {"max_training_steps": 150}}]}]}',
        more="Presets are read from `training_presets.json` in a base's folder; `seed`, what `/train` does by default, "
        "is there for every base.",
        errors=BEHIND,
    ),
    Route(
        "POST /v1/trainings",
        """
        curl -sS $API/v1/trainings -H 'Content-Type: application/json' -H 'Idempotency-Key: curl-robot-1' \\
          -d @- <<EOF > training.json
        {"instance_prompt": "a sks robot", "model_id": "curl-robot", "photos": $photos,
         "preset": "recommended", "max_training_steps": 10,
         "sample_prompt": "a sks robot on the beach", "sample_every_steps": 5}
        EOF
        id=$(answer '["id"]' < training.json)
        """,
        """
        body = {"instance_prompt": "a sks robot", "model_id": "python-robot", "photos": photos,
                "preset": "recommended", "max_training_steps": 10,
                "sample_prompt": "a sks robot on the beach", "sample_every_steps": 5}
        headers = {"Idempotency-Key": "python-robot-1"}
        training = requests.post(f"{API}/v1/trainings", json=body, headers=headers).json()
        """,
        _TRAINING,
        more="What the body leaves out is the preset's, without a preset the service's. Samples change nothing of what "
        "is trained; each takes the time of one generated picture.",
        errors=(
            *BAD_PICTURE,
            (Conflict, "the model is being removed"),
            (QuotaExceeded, "as many trainings of yours wait and run as may"),
            (QueueFull, "too many trainings wait"),
        ),
    ),
    Route(
        "GET /v1/trainings",
        """
        curl -sS "$API/v1/trainings?model_id=curl-robot&limit=10"
        """,
        """
        requests.get(f"{API}/v1/trainings", params={"model_id": "python-robot", "limit": 10}).json()
        """,
        '{"trainings": [{"id": "tr-...", "state": "running"}], "next": null}',
    ),
    Route(
        "GET /v1/trainings/{training_id}",
        """
        curl -sS $API/v1/trainings/$id
        """,
        """
        requests.get(f"{API}/v1/trainings/{training['id']}").json()
        """,
        _TRAINING,
        errors=NO_TRAINING,
    ),
    Route(
        "GET /v1/trainings/{training_id}/events",
        """
        curl -sSN $API/v1/trainings/$id/events
        """,
        """
        with requests.get(f"{API}/v1/trainings/{training['id']}/events", stream=True) as events:
            for line in events.iter_lines(decode_unicode=True):
                print(line)

        """,
        more='A `state` is such as `{"state": "running", "attempt": 1}`; a `progress` and a `sample` are as the '
        "training shows them. Whoever comes later, or again, gets the samples that there are.",
        errors=FOLLOWING,
    ),
    Route(
        "GET /v1/trainings/{training_id}/samples/{step}",
        """
        curl -sS $API/v1/trainings/$id/samples/5 > sample.png
        """,
        """
        sample = requests.get(f"{API}/v1/trainings/{training['id']}/samples/5").content
        """,
        errors=((NotFound, "no such training, or no sample of this step"),),
    ),
    Route(
        "GET /v1/trainings/{training_id}/losses",
        """
        curl -sS $API/v1/trainings/$id/losses
        """,
        """
        requests.get(f"{API}/v1/trainings/{training['id']}/losses").json()
        """,
        '{"losses": [{"step": 1, "loss": 0.21}, {"step": 10, "loss": 0.12}]}',
        errors=NO_TRAINING,
    ),
    Route(
        "GET /v1/trainings/{training_id}/log",
        """
        curl -sS "$API/v1/trainings/$id/log?lines=50"
        """,
        """
        requests.get(f"{API}/v1/trainings/{training['id']}/log", params={"lines": 50}).json()
        """,
        '{"lines": [{"at": "...", "level": "info", "attempt": 1, "message": "Training begins: 10 steps.", '
        '"trace": null}], "truncated": false}',
        errors=NO_TRAINING,
    ),
    Route(
        "POST /v1/trainings/{training_id}/cancel",
        """
        curl -sS $API/v1/trainings -H 'Content-Type: application/json' -d @- <<EOF > other.json
        {"instance_prompt": "a sks robot", "model_id": "curl-robot", "photos": $photos}
        EOF
        other=$(answer '["id"]' < other.json)
        curl -sS -X POST $API/v1/trainings/$other/cancel
        curl -sSN $API/v1/trainings/$other/events    # to its end
        """,
        """
        body = {"instance_prompt": "a sks robot", "model_id": "python-robot", "photos": photos}
        other = requests.post(f"{API}/v1/trainings", json=body).json()
        requests.post(f"{API}/v1/trainings/{other['id']}/cancel").json()
        requests.get(f"{API}/v1/trainings/{other['id']}/events").text    # to its end
        """,
        _TRAINING,
        errors=(*NO_TRAINING, (Conflict, "it has succeeded or failed already")),
    ),
    Route(
        "POST /v1/trainings/{training_id}/retry",
        """
        curl -sS -X POST $API/v1/trainings/$other/retry > again.json
        again=$(answer '["id"]' < again.json)
        curl -sS -X POST $API/v1/trainings/$again/cancel
        curl -sSN $API/v1/trainings/$again/events    # to its end
        """,
        """
        again = requests.post(f"{API}/v1/trainings/{other['id']}/retry").json()
        requests.post(f"{API}/v1/trainings/{again['id']}/cancel").json()
        requests.get(f"{API}/v1/trainings/{again['id']}/events").text    # to its end
        """,
        '{"id": "tr-...", "state": "queued", "model_id": "curl-robot", "retry_of": "tr-...", "attempt": 0}',
        more="Its end is told where that of the first one was to be told, unless this request says where. It begins "
        "with the first step; checkpoints of the first one are not used.",
        errors=(
            *NO_TRAINING,
            (Conflict, "it did not fail and was not cancelled, or its photos are no longer kept"),
            (QuotaExceeded, "as many trainings of yours wait and run as may"),
            (QueueFull, "too many trainings wait"),
        ),
    ),
    Route(
        "DELETE /v1/trainings/{training_id}",
        """
        curl -sS -X DELETE $API/v1/trainings/$id
        """,
        """
        requests.delete(f"{API}/v1/trainings/{training['id']}").status_code
        """,
        errors=(*NO_TRAINING, (Conflict, "it has not ended")),
    ),
    Route(
        "GET /v1/webhook-secret",
        """
        curl -sS $API/v1/webhook-secret
        """,
        """
        secret = requests.get(f"{API}/v1/webhook-secret").json()["secret"]
        """,
        '{"secret": "whsec_..."}',
    ),
    Topic(
        "Webhooks",
        "The end of a training that was started with the header `X-Webhook-URL` is posted there as "
        '`{"id": "evt-...", "type": "training.succeeded", "created_at": "...", "data": {...}}`: the type ends in '
        "`succeeded`, `failed` or `cancelled`, the data is the training as it is shown above. Answer with a 2xx; "
        "anything else, also a redirect, is tried again with growing pauses, eight times in about a day. A delivery "
        "may come twice, with the same `X-Enlight-Event-Id`; `X-Request-ID` is that of the request that began the "
        "training. It goes to public addresses only, unless "
        "`MAIN_API_WEBHOOK_PRIVATE_ADDRESSES=true`. Believe it when its signature is right:",
        f"""
        import hashlib, hmac, http.server, time
        def is_genuine(signature, body):
            sent = dict(part.split("=") for part in signature.split(","))
            digest = hmac.new(secret.encode(), sent["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
            return hmac.compare_digest(digest, sent["v1"]) and abs(time.time() - int(sent["t"])) < 300

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                genuine = is_genuine(self.headers["X-Enlight-Signature"], body)
                self.send_response(204 if genuine else 400)
                self.end_headers()
                if genuine:
                    print("told:", json.loads(body)["type"], json.loads(body)["data"]["id"])

        with http.server.HTTPServer(("127.0.0.1", {WEBHOOK_PORT}), Receiver) as receiver:
            headers = {{"X-Webhook-URL": "http://127.0.0.1:{WEBHOOK_PORT}/"}}
            told = requests.post(f"{{API}}/v1/trainings", json=body, headers=headers).json()
            requests.post(f"{{API}}/v1/trainings/{{told['id']}}/cancel")
            receiver.handle_request()  # waits for one delivery

        """,
    ),
    Route(
        "GET /v1/webhook-deliveries",
        f"""
        curl -sS $API/v1/trainings -H 'Content-Type: application/json' \\
          -H 'X-Webhook-URL: http://127.0.0.1:{NOBODYS_PORT}/' -d @- <<EOF > told.json
        {{"instance_prompt": "a sks robot", "model_id": "curl-robot", "photos": $photos}}
        EOF
        told=$(answer '["id"]' < told.json)
        curl -sS -X POST $API/v1/trainings/$told/cancel
        curl -sSN $API/v1/trainings/$told/events
        curl -sS "$API/v1/webhook-deliveries?training_id=$told" > deliveries.json
        """,
        """
        deliveries = requests.get(f"{API}/v1/webhook-deliveries", params={"training_id": told["id"]}).json()
        """,
        '{"deliveries": [{"id": "evt-tr-...", "type": "training.cancelled", "training_id": "tr-...", '
        '"url": "http://127.0.0.1:8500/", "state": "delivered", "attempts": 1, "last_status": 204, '
        '"last_error": null, "next_attempt_at": null}], "next": null}',
    ),
    Route(
        "POST /v1/webhook-deliveries/{delivery_id}/retry",
        """
        curl -sS -X POST $API/v1/webhook-deliveries/$(answer '["deliveries"][0]["id"]' < deliveries.json)/retry
        """,
        """
        requests.post(f"{API}/v1/webhook-deliveries/{deliveries['deliveries'][0]['id']}/retry").json()
        """,
        errors=((NotFound, "no such delivery"), (Conflict, "it was not given up")),
        refused=(Conflict, "theirs is tried still, or was delivered"),
    ),
)
