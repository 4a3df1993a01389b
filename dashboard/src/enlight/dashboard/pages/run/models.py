"""``/run/models``: what was trained, where it lies, and the end of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.main_api.relays import relay_file
from enlight.dashboard.pages.run.answers import dialog, shown_or_away
from enlight.servicekit.errors import InvalidRequest

_PER_PAGE = 50


def add_models(pages: Blueprint) -> None:
    """The list, a model, its file, and its two acts."""

    @pages.get("/models")
    def models() -> str:
        after = request.args.get("after", "")
        return render_template("run/models.html", after=after, **shown_or_away(lambda: _list(after)))

    @pages.get("/now/models")
    def models_now() -> str:
        after = request.args.get("after", "")
        return render_template("run/models_now.html", after=after, away=None, **_list(after))

    @pages.get("/models/<name>")
    def model(name: str) -> str:
        return render_template("run/model.html", model=current_api().get(_path(name)))

    @pages.get("/models/<name>/export")
    def export(name: str) -> AnyResponse:
        wanted = {field: request.args.get(field) for field in ("format", "version")}
        return relay_file(f"{_path(name)}/export", wanted)

    @pages.get("/models/<name>/rename")
    def ask_new_name(name: str) -> str:
        return render_template("run/model_rename.html", name=name)

    @pages.post("/models/<name>/rename")
    def rename(name: str) -> Response:
        renamed = current_api().post(f"{_path(name)}/rename", {"name": request.form.get("name", "").strip()})
        return Response(headers={"HX-Redirect": url_for("run.model", name=renamed["id"])})

    @pages.get("/models/<name>/delete")
    def ask_to_delete(name: str) -> str:
        return render_template("run/model_delete.html", model=current_api().get(_path(name)))

    @pages.post("/models/<name>/delete")
    def delete(name: str) -> Response:
        if request.form.get("name", "").strip() != name:
            raise InvalidRequest(f"To delete it, type its name: {name}.")
        return dialog("run/model_deleted.html", removed=current_api().delete(_path(name)))


def _path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _list(after: str) -> dict[str, Any]:
    page = current_api().get("/v1/models", {"limit": _PER_PAGE, "after": after})
    return {"models": page["data"], "next": page["last_id"] if page["has_more"] else None}
