"""dreambooth-api's routes."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE, BUSY, FOLLOWING, NO_MODEL, NO_TRAINING, NO_WEIGHTS
from api_docs.route import Route, Section
from api_docs.status_route import status_answer, status_route

from enlight.servicekit.errors import Conflict, JobCancelled, JobFailed, QueueFull

DREAMBOOTH_API = Section(
    "dreambooth-api, port 5000",
    "dreambooth-api",
    "Trainings and generations of one GPU; without keys. Models of main-api have other names in the bucket: neither "
    "sees the other's.",
    (
        Route(
            "POST /train",
            """
            curl -sS http://127.0.0.1:5000/train -H 'Content-Type: application/json' -d @- <<EOF
            {"INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": "curl-robot", "IMAGE_LIST": $photos,
             "MAX_TRAINING_STEPS": 10, "LR": 1e-4}
            EOF
            """,
            """
            body = {"INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": "python-robot", "IMAGE_LIST": photos,
                    "MAX_TRAINING_STEPS": 10, "LR": 1e-4}
            requests.post("http://127.0.0.1:5000/train", json=body).json()
            """,
            errors=(
                *BAD_PICTURE,
                (JobCancelled, ""),
                (JobFailed, ""),
                (QueueFull, "too many trainings wait, or too many clients"),
                *NO_WEIGHTS,
            ),
        ),
        Route(
            "POST /inference",
            """
            curl -sS http://127.0.0.1:5000/inference -H 'Content-Type: application/json' \\
              -d '{"prompt": "a sks robot on the beach", "model_id": "curl-robot", "num_image": 2}' > answer.json
            """,
            """
            body = {"prompt": "a sks robot on the beach", "model_id": "python-robot", "num_image": 2}
            answer = requests.post("http://127.0.0.1:5000/inference", json=body).json()
            """,
            errors=(*NO_MODEL, *BUSY),
        ),
        Route(
            "POST /v1/generations",
            """
            curl -sS http://127.0.0.1:5000/v1/generations -H 'Content-Type: application/json' \\
              -d '{"prompt": "a robot in the snow", "model_id": "enlight/pocket", "seed": 7}' > answer.json
            curl -sS http://127.0.0.1:5000/v1/generations -H 'Content-Type: application/json' -d @- <<EOF > other.json
            {"prompt": "a robot on the beach", "model_id": "enlight/pocket", "seed": 8,
             "image": "$(answer '["images"][0]' < answer.json)", "strength": 0.6}
            EOF
            """,
            """
            body = {"prompt": "a robot in the snow", "model_id": "enlight/pocket", "seed": 7}
            answer = requests.post("http://127.0.0.1:5000/v1/generations", json=body).json()
            body |= {"prompt": "a robot on the beach", "image": answer["images"][0], "strength": 0.6}
            other = requests.post("http://127.0.0.1:5000/v1/generations", json=body).json()
            """,
            more="The second request begins from the picture of the first one.",
            errors=(*BAD_PICTURE, *NO_MODEL, *BUSY),
        ),
        Route(
            "POST /v1/trainings",
            """
            curl -sS http://127.0.0.1:5000/v1/trainings -H 'Content-Type: application/json' -d @- <<EOF > training.json
            {"instance_prompt": "a sks robot", "model_id": "curl-robot", "photos": $photos, "preset": "recommended"}
            EOF
            id=$(answer '["id"]' < training.json)
            """,
            """
            body = {"instance_prompt": "a sks robot", "model_id": "python-robot", "photos": photos,
                    "preset": "recommended"}
            training = requests.post("http://127.0.0.1:5000/v1/trainings", json=body).json()
            """,
            more="What the body leaves out is the preset's, without a preset the service's.",
            errors=(
                *BAD_PICTURE,
                (Conflict, "an identical training runs for a client of `/train`"),
                (QueueFull, "too many trainings wait"),
                *NO_WEIGHTS,
            ),
        ),
        Route(
            "GET /v1/trainings",
            """
            curl -sS "http://127.0.0.1:5000/v1/trainings?state=running"
            """,
            """
            requests.get("http://127.0.0.1:5000/v1/trainings", params={"limit": 10}).json()
            """,
            '{"trainings": [{"id": "tr-...", "state": "running"}]}',
            more="Those of `/train` are forgotten by a restart.",
        ),
        Route(
            "GET /v1/trainings/{training_id}",
            """
            curl -sS http://127.0.0.1:5000/v1/trainings/$id
            """,
            """
            requests.get(f"http://127.0.0.1:5000/v1/trainings/{training['id']}").json()
            """,
            errors=NO_TRAINING,
        ),
        Route(
            "POST /v1/trainings/{training_id}/cancel",
            """
            curl -sS -X POST http://127.0.0.1:5000/v1/trainings/$id/cancel
            """,
            """
            requests.post(f"http://127.0.0.1:5000/v1/trainings/{training['id']}/cancel").json()
            """,
            errors=(*NO_TRAINING, (Conflict, "it has ended")),
        ),
        Route(
            "GET /v1/trainings/{training_id}/events",
            """
            curl -sSN http://127.0.0.1:5000/v1/trainings/$id/events
            """,
            """
            with requests.get(f"http://127.0.0.1:5000/v1/trainings/{training['id']}/events", stream=True) as events:
                for line in events.iter_lines(decode_unicode=True):
                    print(line)

            """,
            errors=FOLLOWING,
        ),
        Route(
            "POST /v1/photos/check",
            """
            curl -sS http://127.0.0.1:5000/v1/photos/check -H 'Content-Type: application/json' -d @- <<EOF
            {"photos": $photos}
            EOF
            """,
            """
            requests.post("http://127.0.0.1:5000/v1/photos/check", json={"photos": photos}).json()
            """,
            errors=BAD_PICTURE,
        ),
        Route(
            "GET /v1/base-models",
            """
            curl -sS http://127.0.0.1:5000/v1/base-models
            """,
            """
            requests.get("http://127.0.0.1:5000/v1/base-models").json()
            """,
        ),
        status_route(
            5000, status_answer("dreambooth-api", '{"model_id": "...", "version": "...", "tier": "resident"}')
        ),
    ),
)
