"""Pictures of a tenant's models: the tenant's name of a model goes in and comes back, the bucket's id stays behind."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from flask import Response
from pydantic import BaseModel, ValidationError

from enlight.dreambooth_api.schemas import GenerationAnswer, GenerationBody, InferenceBody
from enlight.main_api.cache.kept_answers import Found
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.models.lookup import ModelLookup
from enlight.main_api.models.served_versions import ServedVersions
from enlight.main_api.upstreams.answers import UpstreamAnswer, raise_error_of, renamed
from enlight.main_api.upstreams.forwarding import Forwarder, send_with
from enlight.main_api.upstreams.upstream import Upstream
from enlight.main_api.usage.records import usage_notes
from enlight.servicekit.errors import UpstreamFailed


@dataclass(frozen=True, eq=False)
class Generated:
    """Pictures, the memory that they take, and how they came."""

    answer: GenerationAnswer
    """Its ``images`` are base64, as many as were asked for."""
    _found: Found
    _held: ExitStack
    _is_kept: bool

    def send_with(self, response: Response) -> None:
        """Counts the memory until the response is sent, and has it say in ``X-Cache`` how the pictures came."""
        send_with(response, self._found, self._held.pop_all(), tell=self._is_kept)


class Generator:
    """Has pictures made for the caller of the current request.

    Args:
        dreambooth: Who computes them.
        forwarder: Asks for them, or finds them again.
        models: Tenants' names of models.
        versions: What a model's name stands for at this moment.
    """

    def __init__(
        self, dreambooth: Upstream, forwarder: Forwarder, models: ModelLookup, versions: ServedVersions
    ) -> None:
        self._dreambooth = dreambooth
        self._forwarder = forwarder
        self._models = models
        self._versions = versions

    def ask(self, path: str, body: InferenceBody | GenerationBody) -> tuple[Found, ExitStack]:
        """The service's answer, good or not; the stack is to be closed when it is sent.

        Args:
            path: Of dreambooth-api: ``/inference`` or ``/v1/generations``.
            body: What is asked for. With a seed, equal requests are computed once.

        Raises: NotFound, and as `Forwarder.ask`.
        """
        name = body.model_id
        usage_notes().model = name
        is_kept = has_seed(body)
        if "/" in name:  # a base model's; no tenant's name holds a slash
            version = self._versions.of_base(name) if is_kept else None
            return self._forwarder.ask(self._dreambooth, path, body=_json(body), model_id=None, version=version)
        bucket_id = self._models.bucket_id(current_caller().tenant, name)
        version = self._versions.of_model(bucket_id) if is_kept else None
        asked = _json(body.model_copy(update={"model_id": bucket_id}))
        found, held = self._forwarder.ask(self._dreambooth, path, body=asked, model_id=bucket_id, version=version)
        if found.answer.status == 200:
            held.callback(partial(self._models.note_use, bucket_id))
        return replace(found, answer=renamed(found.answer, bucket_id, name)), held

    @contextmanager
    def generate(self, body: GenerationBody) -> Iterator[Generated]:
        """The pictures that ``/v1/generations`` gives, for an answer of another shape.

        Raises: as `ask`; the service's own error, as it is; UpstreamFailed for an answer that is none.
        """
        found, held = self.ask("/v1/generations", body)
        with held:
            raise_error_of(found.answer)
            yield Generated(generation_of(found.answer, body.num_images), found, held, has_seed(body))


def has_seed(body: InferenceBody | GenerationBody) -> bool:
    """Whether the same pictures come each time; without a seed each request has pictures of its own."""
    return isinstance(body, GenerationBody) and body.seed is not None


def generation_of(answer: UpstreamAnswer, count: int) -> GenerationAnswer:
    """What dreambooth-api gave: ``count`` pictures and what ran. Raises UpstreamFailed."""
    try:
        told = GenerationAnswer.model_validate_json(bytes(answer.body))
    except ValidationError as error:
        raise UpstreamFailed("dreambooth-api gave an answer without what it ran.") from error
    if len(told.images) != count:
        raise UpstreamFailed(f"dreambooth-api gave {len(told.images)} pictures instead of {count}.")
    return told


def picture_bytes(image: str) -> bytes:
    """One of the pictures, as a file. Raises UpstreamFailed."""
    try:
        return b64decode(image, validate=True)
    except ValueError as error:
        raise UpstreamFailed("dreambooth-api gave a picture that is not base64.") from error


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json(exclude_unset=True).encode()
