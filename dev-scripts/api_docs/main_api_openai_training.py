"""main-api: OpenAI's routes of files and of fine-tuning."""

from __future__ import annotations

from api_docs.errors import BAD_PICTURE
from api_docs.route import Errors, Route

from enlight.servicekit.errors import Conflict, NotFound, QueueFull, QuotaExceeded

_FILE = (
    '{"id": "file-...", "object": "file", "bytes": 38912, "created_at": 1795785948, "expires_at": 1798377948, '
    '"filename": "robot.zip", "purpose": "fine-tune", "status": "processed", "status_details": null}'
)
_JOB = (
    '{"id": "tr-...", "object": "fine_tuning.job", "status": "queued", "model": "enlight/pocket", '
    '"fine_tuned_model": null, "created_at": 1795785948, "finished_at": null, "estimated_finish": null, "error": null, '
    '"seed": 7, "training_file": "file-...", "metadata": {"instance_prompt": "a sks robot"}}'
)
_NO_FILE: Errors = ((NotFound, "no such file, or it has expired"),)
_NO_JOB: Errors = ((NotFound, "no such job"),)
_NO_PAUSE: Errors = (*_NO_JOB, (Conflict, "always"))


def _refused(act: str) -> Route:
    """A route of OpenAI's that does nothing here."""
    return Route(
        f"POST /v1/fine_tuning/jobs/{{fine_tuning_job_id}}/{act}",
        f"""
        curl -sS -X POST $API/v1/fine_tuning/jobs/$job/{act}
        """,
        f"""
        requests.post(f"{{API}}/v1/fine_tuning/jobs/{{tuning['id']}}/{act}").json()
        """,
        errors=_NO_PAUSE,
        refused=(Conflict, "a training is cancelled, or runs to its end"),
    )


OPENAI_TRAINING: tuple[Route, ...] = (
    Route(
        "POST /v1/files",
        """
        python3 -m zipfile -c robot.zip ../demo/photos/*.png
        curl -sS $API/v1/files -F purpose=fine-tune -F file=@robot.zip > file.json
        file=$(answer '["id"]' < file.json)
        """,
        """
        form = {"file": ("robot.zip", pathlib.Path("robot.zip").read_bytes())}
        uploaded = requests.post(f"{API}/v1/files", data={"purpose": "fine-tune"}, files=form).json()
        """,
        _FILE,
        more="Errors have OpenAI's shape, as on `/v1/images`. A photo in the ZIP has at most 40 MiB. Refused, besides "
        "what a training refuses of its photos: other purposes, other files, more than 500 entries, links, paths out "
        "of the ZIP, ZIPs in it, encrypted entries, and those that overlap or grow to more than 200 times their size.",
        errors=(*BAD_PICTURE, (QuotaExceeded, "as many bytes as may be kept")),
    ),
    Route(
        "GET /v1/files",
        """
        curl -sS "$API/v1/files?limit=10"
        """,
        """
        requests.get(f"{API}/v1/files", params={"limit": 10}).json()
        """,
        '{"object": "list", "data": [{"id": "file-...", "filename": "robot.zip"}], "first_id": "file-...", '
        '"last_id": "file-...", "has_more": false}',
    ),
    Route(
        "GET /v1/files/{file_id}",
        """
        curl -sS $API/v1/files/$file
        """,
        """
        requests.get(f"{API}/v1/files/{uploaded['id']}").json()
        """,
        _FILE,
        errors=_NO_FILE,
    ),
    Route(
        "GET /v1/files/{file_id}/content",
        """
        curl -sS $API/v1/files/$file/content > robot-again.zip
        """,
        """
        pathlib.Path("robot-again.zip").write_bytes(requests.get(f"{API}/v1/files/{uploaded['id']}/content").content)
        """,
        errors=_NO_FILE,
    ),
    Route(
        "POST /v1/fine_tuning/jobs",
        """
        curl -sS $API/v1/fine_tuning/jobs -H 'Content-Type: application/json' -d @- <<EOF > job.json
        {"training_file": "$file", "model": "enlight/pocket", "suffix": "curl-tuned", "seed": 7,
         "metadata": {"instance_prompt": "a sks robot", "max_training_steps": "10"}}
        EOF
        job=$(answer '["id"]' < job.json)
        """,
        """
        asked = {"training_file": uploaded["id"], "model": "enlight/pocket", "suffix": "python-tuned", "seed": 7,
                 "metadata": {"instance_prompt": "a sks robot"},
                 "hyperparameters": {"n_epochs": 6, "batch_size": 3, "learning_rate_multiplier": "auto"}}
        tuning = requests.post(f"{API}/v1/fine_tuning/jobs", json=asked).json()
        """,
        _JOB,
        more="`n_epochs` makes as many updates as it takes to see each photo so often, with the batch that there is. "
        "What is given twice is refused. `hyperparameters` take, beside OpenAI's three, the numbers of "
        "`POST /v1/trainings` under their names, also as `method.supervised.hyperparameters` or, the same, "
        "`method.dreambooth.hyperparameters`; other methods, `validation_file` and `integrations` are refused.",
        errors=(
            (NotFound, "no such file"),
            (Conflict, "the model is being removed"),
            (QuotaExceeded, "as many trainings of yours wait and run as may"),
            (QueueFull, "too many trainings wait"),
        ),
    ),
    Route(
        "GET /v1/fine_tuning/jobs",
        """
        curl -sS -G $API/v1/fine_tuning/jobs -d limit=10 --data-urlencode 'metadata[instance_prompt]=a sks robot'
        """,
        """
        requests.get(f"{API}/v1/fine_tuning/jobs", params={"metadata[instance_prompt]": "a sks robot"}).json()
        """,
        '{"object": "list", "data": [{"id": "tr-...", "status": "running"}], "has_more": false}',
    ),
    Route(
        "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}",
        """
        curl -sS $API/v1/fine_tuning/jobs/$job
        """,
        """
        requests.get(f"{API}/v1/fine_tuning/jobs/{tuning['id']}").json()
        """,
        _JOB,
        errors=_NO_JOB,
    ),
    Route(
        "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/events",
        """
        curl -sS "$API/v1/fine_tuning/jobs/$job/events?limit=50"
        """,
        """
        requests.get(f"{API}/v1/fine_tuning/jobs/{tuning['id']}/events", params={"limit": 50}).json()
        """,
        '{"object": "list", "data": [{"id": "ftevent-...", "created_at": 1795785948, "level": "info", '
        '"message": "Accepted; waits for a worker.", "type": "message", "data": null}], "has_more": false}',
        more="Steps come as `metrics`, with `step`, `total_steps` and `train_loss` in `data`; their times are "
        "reckoned, for nobody noted them.",
        errors=_NO_JOB,
    ),
    Route(
        "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints",
        """
        curl -sS $API/v1/fine_tuning/jobs/$job/checkpoints
        """,
        """
        requests.get(f"{API}/v1/fine_tuning/jobs/{tuning['id']}/checkpoints").json()
        """,
        '{"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false}',
        errors=_NO_JOB,
    ),
    Route(
        "POST /v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel",
        """
        curl -sS $API/v1/fine_tuning/jobs -H 'Content-Type: application/json' -d @- <<EOF > job.json
        {"training_file": "$file", "model": "enlight/pocket", "suffix": "curl-stopped",
         "metadata": {"instance_prompt": "a sks robot", "max_training_steps": "10000"}}
        EOF
        curl -sS -X POST $API/v1/fine_tuning/jobs/$(answer '["id"]' < job.json)/cancel
        """,
        """
        asked |= {"suffix": "python-stopped", "hyperparameters": {"max_training_steps": 10000}}
        stopped = requests.post(f"{API}/v1/fine_tuning/jobs", json=asked).json()
        requests.post(f"{API}/v1/fine_tuning/jobs/{stopped['id']}/cancel").json()
        """,
        _JOB,
        errors=(*_NO_JOB, (Conflict, "it has ended otherwise")),
    ),
    _refused("pause"),
    _refused("resume"),
    Route(
        "DELETE /v1/files/{file_id}",
        """
        curl -sS -X DELETE $API/v1/files/$file
        """,
        """
        requests.delete(f"{API}/v1/files/{uploaded['id']}").json()
        """,
        '{"id": "file-...", "object": "file", "deleted": true}',
        errors=_NO_FILE,
    ),
)
