"""Pictures of a model as they get finished, each one kept before it is told of."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

from enlight.dreambooth_api.schemas import SEED_LIMIT, GenerationAnswer, GenerationBody
from enlight.main_api.gallery.gallery import Gallery, NewPicture
from enlight.main_api.gallery.records import KeptPicture
from enlight.main_api.gallery.views import picture_view
from enlight.main_api.models.lookup import ModelLookup
from enlight.main_api.upstreams.generator import generation_of, picture_bytes
from enlight.main_api.upstreams.own_requests import NamedBucketId, Work
from enlight.main_api.upstreams.upstream import Upstream
from enlight.servicekit.errors import ClientGone, InvalidField, ServiceError

MAX_AT_ONCE = 4
"""Pictures asked for together: the first alone, so that there is something to see soon, then as many as there are
already, up to this many, as a GPU makes several in less time than one after the other."""
RANDOM_SEED_LIMIT = 2**32
"""Seeds made here are below it: every client's numbers hold them exactly."""
_RAN = {"model_version", "base_model", "num_inference_steps", "guidance_scale", "scheduler", "width", "height"}


class GenerationStreams:
    """Makes a tenant's pictures.

    Args:
        dreambooth: Who computes them.
        models: Tenants' names of models.
        gallery: Keeps them.
    """

    def __init__(self, dreambooth: Upstream, models: ModelLookup, gallery: Gallery) -> None:
        self._dreambooth = dreambooth
        self._models = models
        self._gallery = gallery

    def open(self, tenant: str, body: GenerationBody, work: Work) -> Iterator[bytes]:
        """Makes the first picture, then gives the server-sent events: `picture` for each, in the end `end` or `error`.

        Raises:
            InvalidField, QuotaExceeded, NotFound, or any error of making and keeping the first picture.
        """
        seed = secrets.randbelow(RANDOM_SEED_LIMIT) if body.seed is None else body.seed
        if seed + body.num_images > SEED_LIMIT:
            raise InvalidField.of("seed", f"must be at most {SEED_LIMIT - body.num_images} for so many pictures")
        self._gallery.check_room(tenant, body.num_images)
        rounds = self._rounds(tenant, body.model_copy(update={"seed": seed}), work)
        return _events(next(rounds), rounds)

    def _rounds(self, tenant: str, body: GenerationBody, work: Work) -> Iterator[list[KeptPicture]]:
        model = None
        if "/" not in body.model_id:  # a base model's name holds one
            model = NamedBucketId(self._models.bucket_id(tenant, body.model_id), body.model_id)
        made = 0
        while made < body.num_images:
            count = min(max(made, 1), MAX_AT_ONCE, body.num_images - made)
            yield self._round(tenant, body, model, work, made, count)
            made += count
            if model is not None:
                self._models.note_use(model.bucket_id)

    def _round(
        self,
        tenant: str,
        body: GenerationBody,
        model: NamedBucketId | None,
        work: Work,
        first: int,
        count: int,
    ) -> list[KeptPicture]:
        assert body.seed is not None
        seed = body.seed + first
        update: dict[str, Any] = {"num_images": count, "seed": seed}
        if model is not None:
            update["model_id"] = model.bucket_id
        asked = body.model_copy(update=update).model_dump_json(exclude_unset=True).encode()
        answer = generation_of(work.ask(self._dreambooth, "/v1/generations", "json", asked, model=model), count)
        return [
            self._gallery.keep(
                tenant,
                NewPicture(
                    kind="generation",
                    data=picture_bytes(image),
                    content_type=f"image/{body.format}",
                    parameters=made_with(body, answer, seed + index),
                    model=body.model_id,
                ),
            )
            for index, image in enumerate(answer.images)
        ]


def made_with(body: GenerationBody, ran: GenerationAnswer, seed: int) -> dict[str, Any]:
    """All that it takes to make a picture again, as it is kept with it; but for a picture that it began from."""
    return {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        # As text: 63 bits are more than the numbers of JSON hold everywhere.
        "seed": str(seed),
        **ran.model_dump(include=_RAN),
        "format": body.format,
        **_began_from(body, ran),
    }


def _began_from(body: GenerationBody, ran: GenerationAnswer) -> dict[str, Any]:
    """That there was a picture, and how much of it stayed; never the picture."""
    if body.image is None:
        return {}
    masked = body.mask is not None
    kept = {"keep_unmasked": body.keep_unmasked} if masked else {}
    return {"from_image": True, "with_mask": masked, "strength": ran.strength, **kept}


def _events(first: list[KeptPicture], more: Iterator[list[KeptPicture]]) -> Iterator[bytes]:
    made = 0
    pictures: list[KeptPicture] | None = first
    try:
        while pictures is not None:
            for picture in pictures:
                made += 1
                yield _event("picture", picture_view(picture))
            pictures = next(more, None)
    except ClientGone:
        return
    except ServiceError as error:
        yield _event("error", {"code": error.code, "message": error.message, "made": made})
    else:
        yield _event("end", {"made": made})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
