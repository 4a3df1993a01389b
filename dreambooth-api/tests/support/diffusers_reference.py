"""What diffusers' own pipeline makes, to compare with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import diffusers.schedulers
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import StableDiffusionImg2ImgPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import StableDiffusionInpaintPipeline
from numpy.typing import NDArray

AnyPipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionImg2ImgPipeline | StableDiffusionInpaintPipeline
PipelineT = TypeVar("PipelineT", bound=AnyPipeline)


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in ``folder``, fp32 on the CPU."""
    return _quiet(StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True).to(torch.float32))


def with_scheduler(pipeline: StableDiffusionPipeline, config: Mapping[str, Any]) -> StableDiffusionPipeline:
    """The same networks under the scheduler of ``config``."""
    scheduler = getattr(diffusers.schedulers, config["_class_name"]).from_config(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it corrects old configurations, and says so
        other: Any = StableDiffusionPipeline
        made = other(**{**pipeline.components, "scheduler": scheduler}, requires_safety_checker=False)
    return cast(StableDiffusionPipeline, _quiet(made))


def from_images(pipeline: StableDiffusionPipeline) -> StableDiffusionImg2ImgPipeline:
    """The same networks and scheduler, to begin from pictures (``image``)."""
    return _quiet(StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False))


def from_masked_images(pipeline: StableDiffusionPipeline) -> StableDiffusionInpaintPipeline:
    """The same networks and scheduler, to paint parts of pictures anew (``image``, ``mask_image``)."""
    return _quiet(StableDiffusionInpaintPipeline(**pipeline.components, requires_safety_checker=False))


def pictures(
    pipeline: AnyPipeline, prompts: Sequence[str], seeds: Sequence[int], **arguments: Any
) -> NDArray[np.uint8]:
    """(B, H, W, 3): picture i from prompt i and a CPU generator with seed i."""
    call: Any = pipeline
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    output = call(list(prompts), generator=generators, **arguments)
    return np.stack([np.asarray(image) for image in output.images])


def _quiet(pipeline: PipelineT) -> PipelineT:
    cast(Any, pipeline).set_progress_bar_config(disable=True)
    return pipeline
