"""Pictures that a training makes of its network as it is, for whoever watches; the training goes on as if it had not.

All pictures of a training have one seed, so that only the network differs between them.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import Conditioning, sample_conditioned
from enlight.dreambooth_api.pure.training import autocast
from enlight.dreambooth_api.requests import TrainerConfig, TrainingRequest, TrainingSample
from enlight.dreambooth_api.training_progress import JOB_TASK_ID, ProgressReporter, TrainerChannel, remark
from enlight.servicekit.images import encode_png

_log = logging.getLogger(__name__)

MAX_DENOISING_STEPS = 20
"""A sample is for a look; a base that names fewer steps gets fewer."""
GUIDANCE_SCALE = 7.5

MakeSample = Callable[[Callable[[], bool]], bytes | None]
"""A PNG file of the network as it is; None when the function that it is given, asked after each step, said no."""


def training_samples(
    pipeline: StableDiffusion,
    config: TrainerConfig,
    channel: TrainerChannel,
    reporter: ProgressReporter,
    *,
    autocast_dtype: torch.dtype | None,
) -> TrainingSamples | None:
    """The samples that the request asks for; None: none.

    ``pipeline`` is not set up for the training yet: that drops the text encoder, unless it is trained.
    """
    request = config.request
    if request.sample_prompt is None or request.sample_every_steps is None:
        return None
    make = Sampler(
        pipeline,
        request,
        prompt=request.sample_prompt,
        denoising_steps=min(config.base.default_steps, MAX_DENOISING_STEPS),
        autocast_dtype=autocast_dtype,
    )
    return TrainingSamples(make, channel, reporter, every_steps=request.sample_every_steps, made=config.sampled_steps)


class TrainingSamples:
    """Makes each sample once, and tells it.

    Args:
        make: Makes one.
        channel: Takes them; says when to stop.
        reporter: Tells that the trainer is alive meanwhile.
        every_steps: Updates between two.
        made: Steps whose samples there are.
    """

    def __init__(
        self,
        make: MakeSample,
        channel: TrainerChannel,
        reporter: ProgressReporter,
        *,
        every_steps: int,
        made: Sequence[int],
    ) -> None:
        self._make = make
        self._channel = channel
        self._reporter = reporter
        self._every_steps = every_steps
        self._made = set(made)

    def make_if_due(self, step: int) -> None:
        """Makes the sample of ``step``, where there is to be one. Nothing that goes wrong with it is raised; one that
        somebody's wish to stop interrupts is left to the next attempt."""
        if step == 0 or step % self._every_steps or step in self._made:
            return
        begun_s = time.monotonic()
        try:
            png = self._make(self._goes_on)
        except Exception as error:  # noqa: BLE001 -- the training is worth more than a picture of it
            _log.warning("no sample of update %d: %s", step, error)
            remark(self._channel, "warning", f"The sample of step {step} could not be made.", traceback.format_exc())
        else:
            if png is not None:
                self._made.add(step)
                self._channel.progress(JOB_TASK_ID, TrainingSample(step, png, time.monotonic() - begun_s))

    def _goes_on(self) -> bool:
        self._reporter.alive()
        return not (self._channel.closing or self._channel.cancelled(JOB_TASK_ID))


class Sampler:
    """`MakeSample` for a training.

    Args:
        pipeline: See `training_samples`.
        request: The training.
        prompt: What the samples show.
        denoising_steps: Of a sample.
        autocast_dtype: Precision of the training's forward pass.
    """

    def __init__(
        self,
        pipeline: StableDiffusion,
        request: TrainingRequest,
        *,
        prompt: str,
        denoising_steps: int,
        autocast_dtype: torch.dtype | None,
    ) -> None:
        self._pipeline = pipeline
        self._seed, self._side_px = request.seed, request.resolution_px
        self._prompts = [prompt, ""]
        self._steps = denoising_steps
        self._autocast_dtype = autocast_dtype
        self._fixed_embeddings = None if request.train_text_encoder else pipeline.encode_prompts(self._prompts)

    def __call__(self, goes_on: Callable[[], bool]) -> bytes | None:
        """See `MakeSample`."""

        def on_step(done: int, of: int) -> Sequence[int] | None:
            return None if goes_on() else []

        with undisturbed(self._pipeline), autocast(self._pipeline.device, self._autocast_dtype):
            pictures = sample_conditioned(
                self._pipeline,
                self._conditioning(),
                seeds=[self._seed],
                steps=self._steps,
                width_px=self._side_px,
                height_px=self._side_px,
                on_step=on_step,
            )
        return encode_png(pictures[0].cpu().numpy()) if len(pictures) else None

    def _conditioning(self) -> Conditioning:
        embeddings = self._fixed_embeddings
        if embeddings is None:
            embeddings = self._pipeline.encode_prompts(self._prompts)
        embeddings = embeddings.float()
        return Conditioning(embeddings[:1], embeddings[1:], (GUIDANCE_SCALE,))


@contextmanager
def undisturbed(pipeline: StableDiffusion) -> Iterator[None]:
    """Within it the networks can make pictures; afterwards a training goes on as if nothing had been."""
    device = pipeline.device
    vae: torch.nn.Module = pipeline.vae
    networks: tuple[torch.nn.Module, ...] = (pipeline.unet, pipeline.text_encoder, vae)
    modes = [(module, module.training) for network in networks for module in network.modules()]
    benchmark = torch.backends.cudnn.benchmark
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Trying the algorithms for the decoder at full size takes tens of gigabytes.
            torch.backends.cudnn.benchmark = False
            for network in networks:
                network.eval()
            vae.to(device)
            yield
    finally:
        vae.to("cpu")  # in the training's memory the decoder has no place
        for module, mode in modes:
            module.training = mode
        torch.backends.cudnn.benchmark = benchmark
        if device.type == "cuda":
            torch.cuda.empty_cache()
