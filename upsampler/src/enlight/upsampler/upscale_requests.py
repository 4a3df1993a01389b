"""What callers ask for, as the record that the worker takes; checks what can be checked without the picture."""

from __future__ import annotations

from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_uploads import Upload
from enlight.upsampler.requests import (
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_NOISE_LEVEL,
    UpscaleRequest,
)
from enlight.upsampler.schemas import DEFAULT_SEED, SIZE_LIMIT_BYTES, UpsamplerBody, UpscaleParameters


class UpscaleRequests:
    """Makes requests within this service's limits.

    Args:
        max_prompt_chars: Longest prompt.
        default_steps: Denoising steps of a request that names none.
    """

    def __init__(self, *, max_prompt_chars: int, default_steps: int) -> None:
        self._max_prompt_chars = max_prompt_chars
        self._default_steps = default_steps

    def from_body(self, body: UpsamplerBody, image: bytes) -> UpscaleRequest:
        """The request that the seed's body means.

        Raises:
            InvalidField: the prompt is too long.
        """
        self._check("prompt", body.prompt)
        return UpscaleRequest(
            image=image,
            image_field="image",
            prompt=body.prompt,
            negative_prompt="",
            resolution_px=body.resolution,
            seed=DEFAULT_SEED,
            steps=self._default_steps,
            guidance_scale=DEFAULT_GUIDANCE_SCALE,
            noise_level=DEFAULT_NOISE_LEVEL,
            image_format="png",
            max_bytes=SIZE_LIMIT_BYTES if body.mblimit == "true" else None,
        )

    def from_upload(self, upload: Upload, parameters: UpscaleParameters) -> UpscaleRequest:
        """The request that an upload with these parameters means.

        Raises:
            InvalidField: a prompt is too long.
        """
        self._check("prompt", parameters.prompt)
        self._check("negative_prompt", parameters.negative_prompt)
        return UpscaleRequest(
            image=upload.data,
            image_field=upload.field,
            prompt=parameters.prompt,
            negative_prompt=parameters.negative_prompt,
            resolution_px=parameters.resolution,
            seed=parameters.seed,
            steps=parameters.num_inference_steps or self._default_steps,
            guidance_scale=parameters.guidance_scale,
            noise_level=parameters.noise_level,
            image_format=parameters.format,
        )

    def _check(self, field: str, text: str) -> None:
        if len(text) > self._max_prompt_chars:
            raise InvalidField.of(field, f"must have at most {self._max_prompt_chars} characters")
