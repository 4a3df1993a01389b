"""``/v1/pictures``: a tenant's kept pictures. Another tenant's picture is a 404 in all of them."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import urlencode

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.gallery.gallery import Gallery, NewPicture
from enlight.main_api.gallery.generation_stream import GenerationStreams
from enlight.main_api.gallery.records import KeptPicture, PictureKind
from enlight.main_api.gallery.views import (
    KeptCutoutBody,
    KeptUpscaleBody,
    PictureFileQuery,
    PictureListQuery,
    PicturePage,
    PicturePath,
    PicturesBody,
    PictureView,
    picture_view,
)
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.unchanging_files import unchanging_file
from enlight.main_api.upstreams.own_requests import OwnRequests
from enlight.main_api.upstreams.services_behind import ServicesBehind
from enlight.main_api.upstreams.upstream import Upstream
from enlight.main_api.usage.records import usage_notes
from enlight.servicekit.schemas import ErrorBody

_BEHIND: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_NO_PICTURE: ResponseDict = {"404": ErrorBody}
_GALLERY = Tag(name="gallery", description="Pictures that are kept, with all that they were made with.")
_EVENT = {
    "description": "One event of the stream.",
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["picture", "error", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "A JSON object."},
    },
    "required": ["event", "data"],
    "additionalProperties": False,
}
_EVENTS: ResponseDict = {
    "200": {
        "description": "Server-sent events: a `picture` for each that is kept; the last one is `end`, or `error`.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
_FILE: ResponseDict = {
    "200": {
        "description": "The file.",
        "content": {
            f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in ("png", "jpeg", "webp")
        },
    }
}


def gallery_routes(
    gallery: Gallery, streams: GenerationStreams, behind: ServicesBehind, own: OwnRequests, budget: ByteBudget
) -> APIBlueprint:
    """``/v1/pictures``."""
    routes = APIBlueprint("gallery", __name__, abp_tags=[_GALLERY])

    def changed(picture_id: str, kind: PictureKind, upstream: Upstream, path: str, options: dict[str, Any]) -> Any:  # noqa: ANN401
        tenant = current_caller().tenant
        source = gallery.records.get(tenant, picture_id)
        usage_notes().model = source.model
        gallery.check_room(tenant, 1)
        query = urlencode({name: _in_a_query(value) for name, value in options.items()})
        with own.open() as work:
            with budget.share() as share:
                share.take(source.size_bytes)
                data = gallery.files.read(source)
            answer = work.ask(upstream, f"{path}?{query}", "picture", data, content_type=source.content_type)
            made = NewPicture(kind, bytes(answer.body), answer.content_type, options, source.model, source)
            picture = gallery.keep(tenant, made)
        return picture_view(picture), 201, {"Location": f"/v1/pictures/{picture.id}"}

    @routes.post(
        "/v1/pictures", summary="Generate pictures and keep them", responses={**_EVENTS, **_NO_PICTURE, **_BEHIND}
    )
    def make_pictures(body: PicturesBody) -> Response:
        """Makes pictures as `/v1/generations` does and keeps each one. The answer begins with the first picture and
        tells of the others as they get finished; when the client leaves, what is not finished is not made."""
        usage_notes().model = body.model_id
        with ExitStack() as held:
            work = held.enter_context(own.open())
            stream = streams.open(current_caller().tenant, body, work)
            response = Response(stream, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})
            response.call_on_close(held.pop_all().close)
            return response

    @routes.get("/v1/pictures", summary="List pictures", responses={"200": PicturePage})
    def list_pictures(query: PictureListQuery) -> dict[str, Any]:
        """The tenant's pictures, newest first."""
        next_to_one = query.after is not None and query.before is None
        found = gallery.records.list(
            current_caller().tenant,
            limit=query.limit + (not next_to_one),  # one more tells whether there is another page
            before=query.before,
            after=query.after,
            model=query.model_id,
            kind=query.kind,
            source_id=query.source_id,
        )
        page = found[: query.limit]
        more = page[-1].id if len(found) > query.limit else None
        return {"pictures": [picture_view(picture) for picture in page], "next": more}

    @routes.get("/v1/pictures/<picture_id>", summary="Show a picture", responses={"200": PictureView, **_NO_PICTURE})
    def show_picture(path: PicturePath) -> dict[str, Any]:
        """How it was made, and what its file is."""
        return picture_view(gallery.records.get(current_caller().tenant, path.picture_id))

    @routes.get("/v1/pictures/<picture_id>/file", summary="Take a picture", responses={**_FILE, **_NO_PICTURE})
    def picture_file(path: PicturePath, query: PictureFileQuery) -> Response:
        """The picture as it was made, compared with its SHA-256, which is its `ETag`. It never changes."""
        picture = gallery.records.get(current_caller().tenant, path.picture_id)
        read = partial(gallery.files.read, picture)
        response = unchanging_file(
            budget, etag=picture.sha256, size_bytes=picture.size_bytes, media_type=picture.content_type, read=read
        )
        disposition = "attachment" if query.download else "inline"
        response.headers["Content-Disposition"] = f'{disposition}; filename="{_filename(picture)}"'
        return response

    @routes.get(
        "/v1/pictures/<picture_id>/thumbnail", summary="Take a small picture", responses={**_FILE, **_NO_PICTURE}
    )
    def picture_thumbnail(path: PicturePath) -> Response:
        """A WebP for lists, 384 pixels on its long side at most."""
        picture = gallery.records.get(current_caller().tenant, path.picture_id)
        etag, read = f"{picture.sha256}-thumbnail", partial(gallery.files.read_thumbnail, picture)
        return unchanging_file(budget, etag=etag, size_bytes=0, media_type="image/webp", read=read)

    @routes.post(
        "/v1/pictures/<picture_id>/cutout",
        summary="Cut out a kept picture",
        responses={"201": PictureView, **_NO_PICTURE, **_BEHIND},
    )
    def cut_out_picture(path: PicturePath, body: KeptCutoutBody) -> Any:  # noqa: ANN401 -- body, status, headers
        """Makes a new picture of it without its background, and keeps that beside it."""
        options = body.model_dump(exclude_none=True)
        return changed(path.picture_id, "cutout", behind.bgrem, "/v1/cutout", options)

    @routes.post(
        "/v1/pictures/<picture_id>/upscale",
        summary="Enlarge a kept picture",
        responses={"201": PictureView, **_NO_PICTURE, **_BEHIND},
    )
    def upscale_picture(path: PicturePath, body: KeptUpscaleBody) -> Any:  # noqa: ANN401 -- body, status, headers
        """Makes a larger picture of it with Real-ESRGAN, and keeps that beside it."""
        return changed(path.picture_id, "upscale", behind.realesrgan, "/v1/upscale", body.model_dump())

    @routes.delete("/v1/pictures/<picture_id>", summary="Remove a picture", responses={"204": None, **_NO_PICTURE})
    def remove_picture(path: PicturePath) -> Response:
        """Removes the picture's record and files. What was made of it stays."""
        gallery.remove(current_caller().tenant, path.picture_id)
        response = Response(status=204)
        del response.headers["Content-Type"]  # Flask's own, of a body that is not there
        return response

    return routes


def _in_a_query(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _filename(picture: KeptPicture) -> str:
    model = (picture.model or "picture").replace("/", "-")
    mark = picture.parameters.get("seed", picture.id.rpartition("-")[2][:8])
    return f"{model}-{picture.kind}-{mark}.{picture.content_type.removeprefix('image/')}"
