"""txt2img and img2img: from their bodies to what dreambooth-api is asked, and from its answers to theirs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Response, jsonify

from enlight.dreambooth_api.schemas import GenerationAnswer, GenerationBody
from enlight.main_api.adapters.a1111.checkpoints import Checkpoints, ChosenModel
from enlight.main_api.adapters.a1111.init_pictures import InitPicture, init_picture
from enlight.main_api.adapters.a1111.pictures import png_text
from enlight.main_api.adapters.a1111.running import Batch, RunningRequests
from enlight.main_api.adapters.a1111.samplers import check_sampler, sampler_of
from enlight.main_api.adapters.a1111.schemas import GenerationFields, ImageToImageBody, PicturesAnswer, TextToImageBody
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.upstreams.generator import Generated, Generator, picture_bytes
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_image

_FIELDS = {
    "model_id": "sd_model_checkpoint",
    "num_images": "batch_size",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "image": "init_images",
    "strength": "denoising_strength",
}
"""A1111's names of dreambooth-api's fields, where they differ."""


@dataclass(frozen=True)
class _Made:
    """A batch."""

    told: GenerationAnswer
    images: list[str]


class A1111Generations:
    """Has pictures made.

    Args:
        generator: Who makes them.
        checkpoints: With which models.
        running: Is told of requests under way.
        budget: Memory for pictures that are sent.
    """

    def __init__(
        self, generator: Generator, checkpoints: Checkpoints, running: RunningRequests, budget: ByteBudget
    ) -> None:
        self._generator = generator
        self._checkpoints = checkpoints
        self._running = running
        self._budget = budget

    def text_to_image(self, body: TextToImageBody) -> Response:
        """Pictures from noise. Raises: as `Generator.generate` and `Checkpoints.of_request`."""
        return self._answer("txt2img", body, {}, lambda images: images, echo=_echo(body))

    def image_to_image(self, body: ImageToImageBody) -> Response:
        """Pictures from a picture. Raises: as `text_to_image` and `init_picture`."""
        with self._budget.share() as share:
            start = init_picture(body, share)
            begin: dict[str, Any] = {"image": png_text(start.picture), "strength": body.denoising_strength}
            if start.mask is not None:
                begin |= {"mask": png_text(start.mask), "keep_unmasked": False}  # it is kept by `finish`, softly
            echo = _echo(body)
            if not body.include_init_images:
                echo |= {"init_images": None, "mask": None}
            return self._answer("img2img", body, begin, lambda images: _finished(images, start), echo=echo)

    def _answer(
        self,
        route: str,
        body: GenerationFields,
        begin: dict[str, Any],
        finish: Callable[[list[str]], list[str]],
        *,
        echo: dict[str, Any],
    ) -> Response:
        check_sampler(body.sampler_name or body.sampler_index)
        caller = current_caller()
        title = body.override_settings.sd_model_checkpoint if body.override_settings else None
        model = self._checkpoints.of_request(caller, body.prompt, title)
        asked = _asked(body, model, begin)
        batch = Batch(model.name, body.batch_size, body.steps, (body.width, body.height))
        made: list[_Made] = []
        with ExitStack() as held, self._running.request(caller.key_id, route, batch, body.n_iter) as running:
            parts: list[Generated] = []
            while len(made) < body.n_iter and not (made and running.interrupted):
                seed = made[0].told.seed + len(made) * body.batch_size if made else asked.seed
                part = held.enter_context(self._batch(asked.model_copy(update={"seed": seed})))
                parts.append(part)
                made.append(_Made(part.answer, finish(part.answer.images)))
                self._running.batch_done(caller.key_id, running)
            images = [image for each in made for image in each.images]
            info = _info(body, model, [each.told for each in made])
            sent = images if body.send_images else []
            response = jsonify(PicturesAnswer(images=sent, parameters=echo, info=info).model_dump())
            for part in parts:
                part.send_with(response)
            return response

    @contextmanager
    def _batch(self, asked: GenerationBody) -> Iterator[Generated]:
        """A batch, or the service's error in A1111's words."""
        try:
            with self._generator.generate(asked) as generated:
                yield generated
        except InvalidField as error:
            fields = error.details.get("fields")
            if not isinstance(fields, list):
                raise
            raise InvalidField.of_fields(
                [(_FIELDS.get(each["field"], each["field"]), each["message"]) for each in fields]
            ) from None


def _asked(body: GenerationFields, model: ChosenModel, begin: dict[str, Any]) -> GenerationBody:
    given: dict[str, Any] = {
        "model_id": model.name,
        "prompt": model.prompt,
        "negative_prompt": body.negative_prompt,
        "num_images": body.batch_size,
        "guidance_scale": body.cfg_scale,
        "num_inference_steps": body.steps,
        "width": body.width,
        "height": body.height,
        "seed": None if body.seed == -1 else body.seed,
    }
    return GenerationBody(**{name: value for name, value in given.items() if value is not None}, **begin)


def _finished(images: list[str], start: InitPicture) -> list[str]:
    if start.mask is None:
        return images
    return [png_text(start.finish(decode_image(picture_bytes(image), "picture"))) for image in images]


def _echo(body: GenerationFields) -> dict[str, Any]:
    return body.model_dump(mode="json")


def _info(body: GenerationFields, model: ChosenModel, made: list[GenerationAnswer]) -> str:
    """What ran, in the words in which A1111 tells it."""
    told = made[0]
    seeds = [each.seed + number for each in made for number in range(body.batch_size)]
    sampler = sampler_of(told.scheduler)
    strength = body.denoising_strength if isinstance(body, ImageToImageBody) else None
    infotexts = [_infotext(body, model, told, seed, sampler, strength) for seed in seeds]
    return json.dumps(
        {
            "prompt": body.prompt,
            "all_prompts": [body.prompt] * len(seeds),
            "negative_prompt": body.negative_prompt,
            "all_negative_prompts": [body.negative_prompt] * len(seeds),
            "seed": seeds[0],
            "all_seeds": seeds,
            "subseed": -1,
            "all_subseeds": [-1] * len(seeds),
            "subseed_strength": 0,
            "width": told.width,
            "height": told.height,
            "sampler_name": sampler,
            "cfg_scale": told.guidance_scale,
            "steps": told.num_inference_steps,
            "batch_size": body.batch_size,
            "restore_faces": False,
            "face_restoration_model": None,
            "sd_model_name": model.name,
            "sd_model_hash": told.model_version,
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": -1,
            "seed_resize_from_h": -1,
            "denoising_strength": strength,
            "extra_generation_params": {},
            "index_of_first_image": 0,
            "infotexts": infotexts,
            "styles": [],
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime()),
            "clip_skip": 1,
            "is_using_inpainting_conditioning": False,
            "version": "enlight",
        }
    )


def _infotext(
    body: GenerationFields,
    model: ChosenModel,
    told: GenerationAnswer,
    seed: int,
    sampler: str,
    strength: float | None,
) -> str:
    facts = {
        "Steps": told.num_inference_steps,
        "Sampler": sampler,
        "CFG scale": told.guidance_scale,
        "Seed": seed,
        "Size": f"{told.width}x{told.height}",
        "Model": model.name,
        **({} if strength is None else {"Denoising strength": strength}),
        "Version": "enlight",
    }
    negative = f"\nNegative prompt: {body.negative_prompt}" if body.negative_prompt else ""
    return f"{body.prompt}{negative}\n" + ", ".join(f"{name}: {value}" for name, value in facts.items())
