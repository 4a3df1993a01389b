"""Embeddings of prompts, kept for when the same text is asked of the same text encoder again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from enlight.dreambooth_api.lru_cache import LruCache
from enlight.dreambooth_api.resident_bases import ResidentBase

QUOTA_BYTES = 64 * 1024**2
"""About 400 prompts of Stable Diffusion 2."""


class TextEmbeddings:
    """Embeds prompts with what is in the buffers of a base.

    An embedding depends on the text encoder alone: models that leave it as it is share the base's embeddings.
    """

    def __init__(self, quota_bytes: int = QUOTA_BYTES) -> None:
        self._kept: LruCache[torch.Tensor] = LruCache(quota_bytes)

    def encode(self, resident: ResidentBase, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings (B, L, D) of prompts, each distinct one computed at most once."""
        encoder = f"{resident.base.name} {resident.buffers.text_encoder_version or ''}"
        embeddings = {prompt: self._kept.get(f"{encoder} {prompt}") for prompt in prompts}
        missing = [prompt for prompt, embedding in embeddings.items() if embedding is None]
        if missing:
            for prompt, row in zip(missing, resident.pipeline.encode_prompts(missing), strict=True):
                embedding = embeddings[prompt] = row.clone()  # not a view that keeps the whole batch alive
                self._kept.put(f"{encoder} {prompt}", embedding, embedding.nbytes)
        rows = [embeddings[prompt] for prompt in prompts]
        return torch.stack([row for row in rows if row is not None])

    def clear(self) -> None:
        """Gives back the memory."""
        self._kept.clear()
