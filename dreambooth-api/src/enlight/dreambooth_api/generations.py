"""Sends a generation to the engine and waits for it, for as long as its client does. No torch."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import cast

from enlight.dreambooth_api.bases import BaseCatalogue, check_size
from enlight.dreambooth_api.init_image_reader import InitImageReader
from enlight.dreambooth_api.init_images import SizeLimits
from enlight.dreambooth_api.requests import GenerationRequest, GenerationResult
from enlight.dreambooth_api.schemas import GenerationBody, InferenceBody
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.process import Supervisor
from enlight.servicekit.tracing import tracer
from enlight.servicekit.worker_service import run_task

RANDOM_SEED_LIMIT = 2**32


class Generations:
    """The generations of this service: checks what can be checked without the GPU, then asks the engine.

    Args:
        settings: Limits.
        catalogue: Allowed base models.
        engine: The supervised child process that owns the GPU.
    """

    def __init__(self, settings: Settings, catalogue: BaseCatalogue, engine: Supervisor) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._engine = engine
        self._init_images = InitImageReader()
        largest_px = max(base.max_size_px for base in catalogue.bases().values())
        self._any_base = SizeLimits(1, largest_px, multiple_px=1)
        """Of a trained model only the engine knows the base."""

    def from_inference_body(self, body: InferenceBody) -> GenerationRequest:
        """The request that the seed's body means.

        Raises:
            InvalidField: a value is out of this service's limits.
        """
        self._check(body.prompt, "prompt", body.num_image, "num_image")
        return GenerationRequest(
            model_id=body.model_id,
            prompt=body.prompt,
            negative_prompt="",
            count=body.num_image,
            seed=secrets.randbelow(RANDOM_SEED_LIMIT),
            width_px=body.size,
            height_px=body.size,
            steps=None,
            guidance_scale=7.5,
            image_format="png",
            size_fields=("size", "size"),
        )

    def from_generation_body(self, body: GenerationBody) -> GenerationRequest:
        """The request that the body of ``/v1/generations`` means.

        Raises:
            InvalidField: a value is out of this service's limits, or the base model is not allowed.
            WeightsUnavailable: the base model's weights are not here.
            InvalidRequest, BrokenImage, UnsupportedImage, ImageTooLarge: `image` or `mask` cannot be read.
        """
        self._check(body.prompt, "prompt", body.num_images, "num_images")
        self._check(body.negative_prompt, "negative_prompt", 1, "")
        model_id = body.model_id
        limits = self._any_base
        if "/" in model_id:
            base = self._catalogue.resolve(model_id, field="model_id")
            self._catalogue.require_weights(base)
            for size_px, field in ((body.width, "width"), (body.height, "height")):
                check_size(base, size_px or base.native_size_px, field=field)
            model_id, limits = base.name, SizeLimits(base.min_size_px, base.max_size_px)
        return GenerationRequest(
            model_id=model_id,
            prompt=body.prompt,
            negative_prompt=body.negative_prompt,
            count=body.num_images,
            seed=secrets.randbelow(RANDOM_SEED_LIMIT) if body.seed is None else body.seed,
            width_px=body.width,
            height_px=body.height,
            steps=body.num_inference_steps,
            guidance_scale=body.guidance_scale,
            image_format=body.format,
            init_image=self._init_images.read(body, limits),
        )

    def run(self, request: GenerationRequest, client_gone: Callable[[], bool]) -> GenerationResult:
        """Generates; a client that leaves takes its request with it. Raises as ``run_task`` of servicekit."""
        timeout_s = self._settings.inference_timeout_s
        answer = run_task(self._engine, request, client_gone=client_gone, timeout_s=timeout_s)
        result = cast(GenerationResult, answer)
        tracer().record(result.stages)
        return result

    def _check(self, prompt: str, prompt_field: str, count: int, count_field: str) -> None:
        if len(prompt) > self._settings.max_prompt_chars:
            raise InvalidField.of(prompt_field, f"must have at most {self._settings.max_prompt_chars} characters")
        if count > self._settings.max_images_per_request:
            raise InvalidField.of(count_field, f"must be at most {self._settings.max_images_per_request}")
