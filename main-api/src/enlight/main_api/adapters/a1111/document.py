"""What ``/openapi.json`` says of these routes besides what the routes say."""

from __future__ import annotations

from enlight.main_api.adapters.a1111.errors import A1111_ERROR
from enlight.main_api.adapters.a1111.routes import PREFIX
from enlight.main_api.upstreams.picture_document import tell_of_kept_answers
from enlight.servicekit.http_docs import Document, shape_errors

_KEPT = {
    "txt2img": "Only where the request has a `seed`.",
    "img2img": "Only where the request has a `seed`.",
    "extra-single-image": "Only of Real-ESRGAN.",
    "extra-batch-images": "Only of Real-ESRGAN.",
}
"""Which requests may get a kept answer."""


def describe_a1111(document: Document) -> None:
    """Adds to the document, in place, before it is tidied up."""
    shape_errors(document, PREFIX, "A1111Error", A1111_ERROR)
    for name, only in _KEPT.items():
        tell_of_kept_answers(document["paths"][f"{PREFIX}/{name}"]["post"]["responses"]["200"], only=only)
