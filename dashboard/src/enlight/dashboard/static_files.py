"""``/static``: stylesheet, scripts and icons, which a browser may keep until they change."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files

from flask import Blueprint, Response, request, url_for

from enlight.servicekit.errors import NotFound

_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
_FOREVER = "public, max-age=31536000, immutable"


@lru_cache
def _all() -> dict[str, tuple[bytes, str]]:
    """name -> (bytes, hash). Nothing that is not in this list can be asked for, whatever the path says."""
    found = {}
    for entry in files("enlight.dashboard").joinpath("static").iterdir():
        if entry.is_file() and entry.name.rpartition(".")[2] in _TYPES:
            data = entry.read_bytes()
            found[entry.name] = data, hashlib.sha256(data).hexdigest()[:12]
    return found


def asset(name: str) -> str:
    """The address of a file, which changes with the file. Raises KeyError: there is none."""
    return url_for("static_files.file", name=name, v=_all()[name][1])


def static_files() -> Blueprint:
    """The route."""
    routes = Blueprint("static_files", __name__)

    @routes.get("/static/<name>")
    def file(name: str) -> Response:
        if name not in _all():
            raise NotFound(f"There is no file {name[:100]} here.")
        data, digest = _all()[name]
        media_type = _TYPES[name.rpartition(".")[2]]
        response = Response(data, content_type=f"{media_type}; charset=utf-8")
        response.set_etag(digest)
        # Scripts import each other by plain names: those are asked for again, and seldom sent.
        response.headers["Cache-Control"] = _FOREVER if request.args.get("v") == digest else "no-cache"
        response.make_conditional(request)
        return response

    return routes
