"""``/run/jobs``: trainings, each with its log, and what can be done about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, render_template, request

from enlight.dashboard.charts import Chart, axis_up_to, line, words
from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.run.answers import done, shown_or_away

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
LOG_LINES = 200
_PER_PAGE = 25


def add_jobs(pages: Blueprint) -> None:
    """The list, a training, and its two acts, each behind a question."""

    @pages.get("/jobs")
    def jobs() -> str:
        chosen = _chosen()
        return render_template("run/jobs.html", chosen=chosen, states=STATES, **shown_or_away(lambda: _list(chosen)))

    @pages.get("/now/jobs")
    def jobs_now() -> str:
        chosen = _chosen()
        return render_template("run/jobs_now.html", chosen=chosen, away=None, **_list(chosen))

    @pages.get("/jobs/<job_id>")
    def job(job_id: str) -> str:
        return render_template("run/job.html", job_id=job_id, **shown_or_away(lambda: _details(job_id)))

    @pages.get("/now/jobs/<job_id>")
    def job_now(job_id: str) -> str:
        return render_template("run/job_now.html", job_id=job_id, away=None, **_details(job_id))

    @pages.get("/jobs/<job_id>/cancel")
    def ask_to_cancel(job_id: str) -> str:
        return render_template("run/job_cancel.html", job=current_api().get(_path(job_id)))

    @pages.post("/jobs/<job_id>/cancel")
    def cancel(job_id: str) -> Response:
        job = current_api().post(f"{_path(job_id)}/cancel")
        ended = job["state"] == "cancelled"
        return done(f"The training of {job['model_id']} {'is cancelled' if ended else 'ends within a step'}.")

    @pages.post("/jobs/<job_id>/retry")
    def retry(job_id: str) -> Response:
        again = current_api().post(f"{_path(job_id)}/retry")
        return done(f"{again['model_id']} is trained again, as {again['id']}.")


def _path(job_id: str) -> str:
    return f"/v1/trainings/{quote(job_id, safe='')}"


def _chosen() -> dict[str, str]:
    return {name: request.args.get(name, "").strip() for name in ("state", "model_id", "before")}


def _list(chosen: Mapping[str, str]) -> dict[str, Any]:
    page = current_api().get("/v1/trainings", {**chosen, "limit": _PER_PAGE})
    return {"jobs": [{**each, "took_s": _took_s(each)} for each in page["trainings"]], "next": page["next"]}


def _details(job_id: str) -> dict[str, Any]:
    api = current_api()
    job = api.get(_path(job_id))
    losses = api.get(f"{_path(job_id)}/losses")["losses"]
    return {
        "job": {**job, "took_s": _took_s(job)},
        "log": api.get(f"{_path(job_id)}/log", {"lines": LOG_LINES}),
        "losses": _loss_chart(losses, job["parameters"]["max_training_steps"]) if len(losses) > 1 else None,
    }


def _took_s(job: Mapping[str, Any]) -> float | None:
    """From the first attempt's beginning to the end, or to now."""
    if job["started_at"] is None:
        return None
    end = datetime.fromisoformat(job["finished_at"]) if job["finished_at"] else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(job["started_at"])).total_seconds())


def _loss_chart(losses: list[dict[str, Any]], steps: int) -> Chart:
    axis = axis_up_to(max(point["loss"] for point in losses))
    first, last = losses[0], losses[-1]
    return Chart(
        name="Loss",
        summary=f"From {first['loss']:.3g} at step {first['step']} to {last['loss']:.3g} at step {last['step']}.",
        axis=axis,
        marks=words(axis, "{:g}".format),
        below=("step 0", "", f"{steps / 2:g}", "", f"{steps}"),
        legend=(),
        columns=("Step", "Loss"),
        rows=tuple((str(point["step"]), f"{point['loss']:.4g}") for point in reversed(losses)),
        lines=(line("", [(point["step"] / steps, point["loss"]) for point in losses], axis),),
    )
