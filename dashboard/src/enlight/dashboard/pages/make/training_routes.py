"""One training: followed as it goes on, and acted on."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.main_api.relays import EventRelay, relay_picture
from enlight.dashboard.pages.make.loss_curve import loss_curve
from enlight.dashboard.pages.make.photo_words import warnings_in_words
from enlight.dashboard.pages.make.recent_trainings import recent_trainings
from enlight.dashboard.pages.make.training_words import ENDED, STATES, standing, what_to_do

LOG_LINES = 200


def add_training_routes(pages: Blueprint, streams: EventRelay) -> None:
    """``/make/trainings``, ``/make/<training_id>`` and what belongs to it."""

    @pages.get("/trainings")
    def trainings() -> str:
        return render_template("make/trainings.html", **recent_trainings())

    @pages.get("/<training_id>")
    def training(training_id: str) -> str:
        return render_template("make/training.html", **_shown(training_id))

    @pages.get("/<training_id>/now")
    def now(training_id: str) -> str:
        return render_template("make/now.html", **_shown(training_id))

    @pages.get("/<training_id>/events")
    def events(training_id: str) -> Response:
        return streams.relay("GET", f"{_path(training_id)}/events")

    @pages.get("/<training_id>/samples/<int:step>")
    def sample(training_id: str, step: int) -> Response:
        return relay_picture(f"{_path(training_id)}/samples/{step}")

    @pages.get("/<training_id>/log")
    def log(training_id: str) -> str:
        return render_template("make/log.html", **current_api().get(f"{_path(training_id)}/log", {"lines": LOG_LINES}))

    @pages.post("/<training_id>/cancel")
    def cancel(training_id: str) -> Response:
        current_api().post(f"{_path(training_id)}/cancel")
        return redirect(url_for("make.training", training_id=training_id), 303)

    @pages.post("/<training_id>/retry")
    def retry(training_id: str) -> Response:
        again = current_api().post(f"{_path(training_id)}/retry")
        return redirect(url_for("make.training", training_id=again["id"]), 303)


def _path(training_id: str) -> str:
    return f"/v1/trainings/{quote(training_id, safe='')}"


def _shown(training_id: str) -> dict[str, Any]:
    training = current_api().get(_path(training_id))
    losses = current_api().get(f"{_path(training_id)}/losses")["losses"]
    return {
        "training": training,
        "ended": training["state"] in ENDED,
        "state_in_words": STATES[training["state"]],
        "standing": standing(training),
        "curve": loss_curve(losses, training["parameters"]["max_training_steps"]),
        "warnings": warnings_in_words(training["warnings"]),
        "what_to_do": what_to_do(training) if training["state"] == "failed" else None,
    }
