"""``/v1/images``, as OpenAI's clients ask for pictures. Errors have OpenAI's shape, those of keys and limits too."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from flask import Request, Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.adapters.openai.errors import answer_openai_error
from enlight.main_api.adapters.openai.images.edit_forms import MASK, ONE_IMAGE, SEVERAL_IMAGES, read_edit_form
from enlight.main_api.adapters.openai.images.images import Images
from enlight.main_api.adapters.openai.images.parameters import MAX_PICTURES, EditFields, GenerateBody
from enlight.main_api.adapters.openai.images.picture_links import PictureLinks
from enlight.main_api.adapters.openai.images.views import ImagesView, LinkQuery
from enlight.main_api.gallery.gallery import Gallery
from enlight.main_api.gallery.records import KeptPicture
from enlight.main_api.gallery.views import PicturePath
from enlight.main_api.keys.authentication import LINKS_PREFIX
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.unchanging_files import unchanging_file
from enlight.servicekit.errors import InvalidRequest, NotFound
from enlight.servicekit.http_docs import without_null
from enlight.servicekit.schemas import ErrorBody

EDITS_RULE = "/v1/images/edits"
"""The one route here whose body may be large."""
FORM_COPIES = 2
"""A form's bytes and the base64 of its pictures are in memory together; the request with them counts by itself."""
PARAMS = {
    "model_id": "model",
    "num_images": "n",
    "width": "size",
    "height": "size",
    "format": "output_format",
    "body": "image",
}
"""What OpenAI calls the fields that the services behind name in their errors."""

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_IMAGES = Tag(name="OpenAI: images", description="Pictures as OpenAI's clients ask for them, of models of yours.")
_BEHIND: ResponseDict = {str(status): ErrorBody for status in (404, 502, 504)}
_BYTES = {"type": "string", "format": "binary"}
_FILE: ResponseDict = {
    "200": {
        "description": "The file.",
        "content": {f"image/{name}": {"schema": _BYTES} for name in ("png", "jpeg", "webp")},
    },
    "403": ErrorBody,
    "404": ErrorBody,
}


def _form() -> dict[str, Any]:
    described = EditFields.model_json_schema()
    several = {"type": "array", "items": _BYTES, "minItems": 1, "maxItems": MAX_PICTURES}
    files = {
        ONE_IMAGE: {**_BYTES, "description": "The file of one picture."},
        SEVERAL_IMAGES: {**several, "description": "Or the files of several."},
        MASK: {**_BYTES, "description": "A file of the picture's size, transparent where that is painted anew."},
    }
    fields = {name: without_null(schema) for name, schema in described["properties"].items()}
    form = {
        "type": "object",
        "properties": {**files, **fields},
        "required": described["required"],
        "anyOf": [{"required": [ONE_IMAGE]}, {"required": [SEVERAL_IMAGES]}],
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


def openai_image_routes(
    images: Images, links: PictureLinks, gallery: Gallery, budget: ByteBudget, *, public_url: str
) -> APIBlueprint:
    """``/v1/images/...``; ``public_url``: where clients reach the gateway, empty: where they say that they do."""
    routes = APIBlueprint("openai_images", __name__, abp_tags=[_IMAGES])
    routes.register_error_handler(Exception, partial(answer_openai_error, params=PARAMS))

    def link(picture: KeptPicture) -> str:
        return links.link(picture, public_url or _own_url(request))

    @routes.post(
        "/v1/images/generations", summary="OpenAI: generate pictures", responses={"200": ImagesView, **_BEHIND}
    )
    def openai_generate(body: GenerateBody) -> Response:
        """`client.images.generate(...)`. What is not OpenAI's goes through `extra_body`. With a `seed`, equal requests
        are computed once, and `X-Cache` says so."""
        return images.generate(body, link)

    @routes.post(
        EDITS_RULE,
        summary="OpenAI: edit pictures, or cut them out",
        responses={"200": ImagesView, **_BEHIND},
        request_body=_form(),
    )
    def openai_edit() -> Response:
        """`client.images.edit(...)`. What `mask` shows nothing of is painted anew; without it all is, by `strength`.
        Several pictures (`image[]`) are edited one after the other, each by itself. The models `cutout` and
        `cutout/<network>` cut out."""
        with budget.share() as share:
            length_bytes = request.content_length
            share.take(FORM_COPIES * (request.max_content_length or 0 if length_bytes is None else length_bytes))
            return images.edit(read_edit_form(request), link)

    @routes.post("/v1/images/variations", summary="OpenAI: not taken", responses={"404": ErrorBody})
    def openai_refuse_variations() -> Response:
        """OpenAI retired variations, and there are none here: edit the picture, with a prompt and `strength`."""
        raise NotFound("There are no variations: use /v1/images/edits, with a prompt and a `strength` such as 0.5.")

    @routes.get(f"{LINKS_PREFIX}<picture_id>", summary="OpenAI: a picture by its link", responses=_FILE)
    def openai_linked_picture(path: PicturePath, query: LinkQuery) -> Response:
        """The file behind the `url` of a picture, for whoever has that address, until it expires."""
        picture = links.picture(path.picture_id, query.expires, query.signature)
        return unchanging_file(
            budget,
            etag=picture.sha256,
            size_bytes=picture.size_bytes,
            media_type=picture.content_type,
            read=partial(gallery.files.read, picture),
        )

    return routes


def _own_url(request: Request) -> str:
    """Where the client reached the gateway, as it says: nobody else gets the answer."""
    host = request.headers.get("Host", "")
    if not _HOST.fullmatch(host):
        raise InvalidRequest("The Host of the request is no address that a link could begin with.")
    return f"{request.scheme}://{host}"
