"""What diffusers' own pipeline makes, to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_upscale import StableDiffusionUpscalePipeline
from numpy.typing import NDArray
from PIL import Image


def load_pipeline(folder: Path) -> Any:
    """The pipeline in ``folder``, fp32 on the CPU."""
    pipeline: Any = StableDiffusionUpscalePipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(pipeline: Any, low: NDArray[np.uint8], *, seed: int, **arguments: Any) -> NDArray[np.uint8]:
    """(H, W, 3) from ``low`` (h, w, 3) and a CPU generator with ``seed``."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return np.asarray(pipeline(image=Image.fromarray(low), generator=generator, **arguments).images[0])
