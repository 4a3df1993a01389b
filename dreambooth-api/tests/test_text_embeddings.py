"""Prompts are embedded once per text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from published_models import manifest_of, write_full
from tiny_base import build_tiny_base

from enlight.dreambooth_api.fine_tune import read_fine_tune
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.resident_bases import ResidentBases
from enlight.dreambooth_api.text_embeddings import TextEmbeddings

CPU = torch.device("cpu")


class Counting(StableDiffusion):
    """Notes which prompts go through the text encoder."""

    computed: list[str]

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        self.computed += prompts
        return super().encode_prompts(prompts)


def load(folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
    pipeline = Counting.load(folder, device=device, weights_dtype=weights_dtype)
    assert isinstance(pipeline, Counting)
    pipeline.computed = []
    return pipeline


def test_a_text_is_embedded_once_per_text_encoder(tmp_path: Path) -> None:
    # Given a base, a model that leaves its text encoder alone and one that does not
    base = build_tiny_base(tmp_path / "base")
    resident = ResidentBases(CPU, 1, load=load).get(base)
    assert isinstance(resident.pipeline, Counting)
    unet_only = write_full(base, tmp_path / "a", seed=1)
    with_text = write_full(base, tmp_path / "b", seed=2, with_text_encoder=True)
    embeddings = TextEmbeddings()
    # When texts come again, alone or with others, under the base or the first model
    first = embeddings.encode(resident, ["a dog", "", "a dog"])
    resident.buffers.switch_to(read_fine_tune(unet_only, manifest_of(base, "a", "full"), device=CPU))
    second = embeddings.encode(resident, ["a cat", "a dog"])
    # Then each was computed once
    assert resident.pipeline.computed == ["a dog", "", "a cat"]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[0], second[1])
    torch.testing.assert_close(second, resident.pipeline.encode_prompts(["a cat", "a dog"]))
    # When the text encoder is another one, then so are the embeddings
    resident.pipeline.computed.clear()
    resident.buffers.switch_to(read_fine_tune(with_text, manifest_of(base, "b", "full"), device=CPU))
    assert not torch.equal(embeddings.encode(resident, ["a dog"])[0], first[0])
    assert resident.pipeline.computed == ["a dog"]
    # When the base is back, then its embeddings are still known, until they are cleared
    resident.buffers.restore_base()
    assert torch.equal(embeddings.encode(resident, ["a dog"])[0], first[0])
    embeddings.clear()
    embeddings.encode(resident, ["a dog"])
    assert resident.pipeline.computed == ["a dog", "a dog"]


def test_the_quota_bounds_what_is_kept(tmp_path: Path) -> None:
    # Given room for one embedding
    resident = ResidentBases(CPU, 1, load=load).get(build_tiny_base(tmp_path))
    assert isinstance(resident.pipeline, Counting)
    one = resident.pipeline.encode_prompts(["a dog"])
    embeddings = TextEmbeddings(quota_bytes=one.nbytes)
    resident.pipeline.computed.clear()
    # When two texts take turns, then each is computed each time, and right
    for prompt in ("a dog", "a cat", "a dog"):
        embedding = embeddings.encode(resident, [prompt])
    torch.testing.assert_close(embedding, one)
    assert resident.pipeline.computed == ["a dog", "a cat", "a dog"]
