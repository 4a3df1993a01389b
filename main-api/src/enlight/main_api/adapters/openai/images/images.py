"""OpenAI's images: made by a model, edited by one, cut out; as base64, or kept and linked to."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Response, jsonify

from enlight.dreambooth_api.schemas import GenerationBody
from enlight.main_api.adapters.openai.images.edit_forms import MASK, EditForm
from enlight.main_api.adapters.openai.images.masks import white_where_transparent
from enlight.main_api.adapters.openai.images.parameters import (
    DEFAULT_NETWORK,
    MAX_PICTURES,
    EditFields,
    GenerateBody,
)
from enlight.main_api.adapters.openai.images.views import ImagesView, ImageView
from enlight.main_api.gallery.gallery import Gallery, NewPicture
from enlight.main_api.gallery.generation_stream import made_with
from enlight.main_api.gallery.records import KeptPicture
from enlight.main_api.gallery.thumbnails import size_px_of
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.upstreams.answers import raise_error_of
from enlight.main_api.upstreams.forwarding import Forwarder, send_with
from enlight.main_api.upstreams.generator import Generated, Generator, picture_bytes
from enlight.main_api.upstreams.upstream import Upstream
from enlight.main_api.usage.records import usage_notes
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_errors import MISSING_FIELD
from enlight.servicekit.images import to_base64

Link = Callable[[KeptPicture], str]
"""The link to a picture that was kept."""


@dataclass(frozen=True, eq=False)
class _Made:
    """A picture, and what is kept with it."""

    image: str
    """In base64."""
    made: dict[str, Any]
    seed: int | None = None
    model: str | None = None
    is_cut_out: bool = False


@dataclass(eq=False)
class _Answer:
    """What an answer is put together from, while the memory of all of it is held."""

    held: ExitStack
    pictures: list[_Made] = field(default_factory=list)
    sent: list[Callable[[Response], None]] = field(default_factory=list)
    """What each part has to say of how it came; told once the answer is there."""
    model_version: str | None = None


class Images:
    """Makes the answers of ``/v1/images``, for the caller of the current request.

    Args:
        generator: Has pictures made.
        forwarder: Has pictures cut out.
        bgrem: By whom.
        gallery: Keeps those that are linked to.
    """

    def __init__(self, generator: Generator, forwarder: Forwarder, bgrem: Upstream, gallery: Gallery) -> None:
        self._generator = generator
        self._forwarder = forwarder
        self._bgrem = bgrem
        self._gallery = gallery

    def generate(self, body: GenerateBody, link: Link) -> Response:
        """Pictures of a prompt. Raises: as `Generator.generate`; QuotaExceeded for no room to keep them."""
        return self._answer(body, link, body.count, lambda answer: self._generate(body, [body.generation()], answer))

    def edit(self, form: EditForm, link: Link) -> Response:
        """The form's pictures edited by a model, or cut out, one after the other.

        Raises: InvalidField, and as `generate`.
        """
        fields, network = form.fields, form.fields.network
        count = len(form.images) * fields.count
        if count > MAX_PICTURES:
            raise InvalidField.of("n", f"so many of each picture are more than {MAX_PICTURES} in all")
        if network is not None:
            usage_notes().model = fields.model
            _refuse_of_a_cut_out(form)
            return self._answer(fields, link, count, partial(self._cut_out, form, network))
        if fields.prompt is None or not fields.prompt.strip():
            raise InvalidField.of("prompt", MISSING_FIELD)
        return self._answer(fields, link, count, lambda answer: self._generate(fields, _edits(form), answer))

    def _answer(
        self, asked: GenerateBody | EditFields, link: Link, count: int, make: Callable[[_Answer], None]
    ) -> Response:
        is_linked = asked.response_format == "url"
        if is_linked:
            self._gallery.check_room(current_caller().tenant, count)
        with ExitStack() as held:
            answer = _Answer(held)
            make(answer)
            images = [
                ImageView(url=link(self._keep(each, asked.format)), seed=each.seed)
                if is_linked
                else ImageView(b64_json=each.image, seed=each.seed)
                for each in answer.pictures
            ]
            sizes = {f"{width}x{height}" for width, height in map(_size_px_of, answer.pictures)}
            view = ImagesView(
                created=int(time.time()),
                data=images,
                background="transparent" if asked.is_transparent else "opaque",
                output_format=asked.format,
                size=sizes.pop() if len(sizes) == 1 else None,
                model=asked.model,
                model_version=answer.model_version,
            )
            response = jsonify(view.model_dump(exclude_none=True))
            _tell(response, answer.sent)
            return response

    def _generate(self, asked: GenerateBody | EditFields, bodies: list[GenerationBody], answer: _Answer) -> None:
        for body in bodies:
            generated = answer.held.enter_context(self._generator.generate(body))
            answer.model_version = generated.answer.model_version
            answer.sent.append(generated.send_with)
            made = _pictures(body, generated)
            if asked.is_transparent:
                answer.pictures += [self._without_background(picture, asked, answer) for picture in made]
            else:
                answer.pictures += made

    def _without_background(self, picture: _Made, asked: GenerateBody | EditFields, answer: _Answer) -> _Made:
        options = {"model": DEFAULT_NETWORK, "format": asked.format}
        cut = self._cut(picture_bytes(picture.image), "image/png", options, answer, tell=False)
        made = {**picture.made, "background": "transparent", "format": asked.format}
        return _Made(cut, made, picture.seed, picture.model, is_cut_out=True)

    def _cut_out(self, form: EditForm, network: str, answer: _Answer) -> None:
        options = {"model": network, "format": form.fields.format}
        if not form.fields.is_transparent:
            options["background"] = "white"
        for image in form.images:
            cut = self._cut(image, "application/octet-stream", options, answer, tell=True)
            answer.pictures.append(_Made(cut, options, is_cut_out=True))

    def _cut(self, picture: bytes, content_type: str, options: dict[str, str], answer: _Answer, *, tell: bool) -> str:
        found, held = self._forwarder.change(
            self._bgrem, "/v1/cutout", picture, content_type=content_type, options=options
        )
        answer.held.enter_context(held)
        raise_error_of(found.answer)
        answer.sent.append(lambda response: send_with(response, found, held.pop_all(), tell=tell))
        return to_base64(bytes(found.answer.body))

    def _keep(self, picture: _Made, image_format: str) -> KeptPicture:
        return self._gallery.keep(
            current_caller().tenant,
            NewPicture(
                kind="cutout" if picture.is_cut_out else "generation",
                data=picture_bytes(picture.image),
                content_type=f"image/{image_format}",
                parameters=picture.made,
                model=picture.model,
            ),
        )


def _edits(form: EditForm) -> list[GenerationBody]:
    if form.mask is not None and len(form.images) > 1:
        raise InvalidField.of(MASK, "is taken with one picture only")
    mask = None if form.mask is None else to_base64(white_where_transparent(form.mask, MASK))
    return [form.fields.generation(to_base64(image), mask) for image in form.images]


def _refuse_of_a_cut_out(form: EditForm) -> None:
    if form.mask is not None:
        raise InvalidField.of(MASK, "is not taken for a cut-out, which finds the subject by itself")
    if form.fields.count > 1:
        raise InvalidField.of("n", "must be 1: a picture has one cut-out")
    if form.fields.size not in (None, "auto"):
        raise InvalidField.of("size", "must be auto: a cut-out has the size of its picture")


def _pictures(body: GenerationBody, generated: Generated) -> Iterator[_Made]:
    for index, image in enumerate(generated.answer.images):
        seed = generated.answer.seed + index
        yield _Made(image, made_with(body, generated.answer, seed), seed, body.model_id)


def _tell(response: Response, sent: list[Callable[[Response], None]]) -> None:
    told = set()
    for say in sent:
        say(response)
        told.add(response.headers.get("X-Cache"))
    if "miss" in told:
        response.headers["X-Cache"] = "miss"  # also of an answer of which only a part was computed


def _size_px_of(picture: _Made) -> tuple[int, int]:
    return size_px_of(b64decode(picture.image))
