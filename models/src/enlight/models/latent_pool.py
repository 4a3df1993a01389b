"""A pool of encoded training pictures on the device, renewed while it is used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from enlight.models.captions import FORM_WEIGHTS, NO_PHRASE_SHARE, CaptionTable
from enlight.models.compose import Batch, Composer
from enlight.models.networks import Autoencoder
from enlight.models.settings import RecipeSettings

_ENCODE_BATCH = 2048


@dataclass(frozen=True)
class LatentBatch:
    """A training batch."""

    latents: Tensor
    """(B, C, h, w) float32 scaled latents."""
    tokens: Tensor
    """(B, L) int64 captions."""


class LatentPool:
    """Encodes pictures once, draws batches many times: encoding costs a third of a training step."""

    def __init__(
        self,
        vae: Autoencoder,
        scaling_factor: float,
        composer: Composer,
        captions: CaptionTable,
        settings: RecipeSettings,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        """Fills the pool."""
        self._vae, self._factor, self._composer = vae, scaling_factor, composer
        self._device, self._generator, self._dropout = device, generator, settings.caption_dropout
        self._tokens = torch.from_numpy(captions.tokens).to(device)
        self._varied_tokens = torch.from_numpy(captions.varied_tokens).to(device)
        self._empty = torch.from_numpy(captions.empty).to(device)
        self._phrase_start = torch.from_numpy(captions.phrase_start).to(device)
        self._phrase_count = torch.from_numpy(captions.phrase_count).to(device)
        self._form_weights = torch.tensor(FORM_WEIGHTS, device=device)
        size = settings.latent_pool_size
        first = self._encode(min(size, _ENCODE_BATCH))
        kind = torch.float16 if device.type == "cuda" else torch.float32
        self._latents = torch.empty((size, *first[0].shape[1:]), dtype=kind, device=device)
        self._subjects = torch.empty(size, dtype=torch.int64, device=device)
        self._backgrounds = torch.empty(size, dtype=torch.int64, device=device)
        self._variations = torch.empty(size, dtype=torch.int64, device=device)
        self._cursor = 0
        self._write(first)
        while self._cursor != 0:
            self.refresh(min(_ENCODE_BATCH, size - self._cursor))

    def refresh(self, count: int) -> None:
        """Replaces the oldest `count` pictures by new ones."""
        self._write(self._encode(count))

    @torch.no_grad()
    def _encode(self, count: int) -> tuple[Tensor, Batch]:
        batch = self._composer.random_batch(count, self._generator, varied=True)
        pixels = (batch.pixels.float() * 2 - 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            posterior = self._vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, device=self._device, generator=self._generator)
        latents = (posterior.mean + posterior.std * noise) * self._factor
        return latents, batch

    def _write(self, fresh: tuple[Tensor, Batch]) -> None:
        latents, batch = fresh
        count = min(len(latents), len(self._latents) - self._cursor)
        place = slice(self._cursor, self._cursor + count)
        self._latents[place] = latents[:count].to(self._latents.dtype)
        self._subjects[place], self._backgrounds[place] = batch.subjects[:count], batch.backgrounds[:count]
        self._variations[place] = batch.variations[:count]
        self._cursor = (self._cursor + count) % len(self._latents)

    def draw(self, count: int) -> LatentBatch:
        """Draws a batch with freshly worded captions, some of them dropped."""
        device, generator = self._device, self._generator

        def uniform() -> Tensor:
            return torch.rand(count, device=device, generator=generator)

        picks = torch.randint(len(self._latents), (count,), device=device, generator=generator)
        subjects, backgrounds = self._subjects[picks], self._backgrounds[picks]
        phrases = self._phrase_start[backgrounds] + (uniform() * self._phrase_count[backgrounds]).long()
        phrases = torch.where(uniform() < NO_PHRASE_SHARE, self._tokens.shape[1] - 1, phrases)
        forms = torch.multinomial(self._form_weights, count, replacement=True, generator=generator)
        tokens = self._tokens[subjects, phrases, forms]
        variations = self._variations[picks]
        named = subjects.clamp(max=len(self._varied_tokens) - 1)
        varied_tokens = self._varied_tokens[named, phrases, (variations - 1).clamp_min(0)]
        tokens = torch.where((variations > 0)[:, None], varied_tokens, tokens)
        tokens = torch.where((uniform() < self._dropout)[:, None], self._empty, tokens)
        return LatentBatch(self._latents[picks].float(), tokens.long())
