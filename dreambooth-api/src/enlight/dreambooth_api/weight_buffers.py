"""The weights that a base's networks compute with, and the switch from one trained model to another.

The buffers never move. A switch copies what the model changes into them, in place, and puts back what the
last model changed and this one does not. So a captured CUDA graph over them stays valid.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from enlight.dreambooth_api.fine_tune import FineTune, LowRank
from enlight.dreambooth_api.host_memory import TensorLayout, allocate
from enlight.servicekit.errors import CorruptModel


class WeightBuffers:
    """The weights that a resident base's networks compute with: the base's own, or with one model's changes.

    Args:
        base_name: Which base it is; models of another are refused.
        base_revision: Its revision, where it is known.
        weights: The networks' tensors by name (see ``fine_tune``). Their storage stays in place.
    """

    def __init__(self, base_name: str, base_revision: str | None, weights: Mapping[str, torch.Tensor]) -> None:
        self.resident: str | None = None
        """Version of the model in the buffers; None: the plain base."""
        self.copied_bytes = 0
        """Bytes written into the buffers so far."""
        self._base_name = base_name
        self._base_revision = base_revision
        self._weights = {name: tensor.detach() for name, tensor in weights.items()}
        self._originals: dict[str, torch.Tensor] = {}  # host copies of what a model ever changed
        self._changed: set[str] = set()

    @property
    def text_encoder_version(self) -> str | None:
        """Version of the model whose text encoder is in the buffers; None: the base's own."""
        return self.resident if any(_part(name) == "text_encoder" for name in self._changed) else None

    def check(self, fine_tune: FineTune) -> None:
        """Checks that a model fits, without touching anything.

        Raises:
            CorruptModel: it is of another base, lacks weights, has unexpected ones or ones of another shape.
        """
        problem = self._problem_of_base(fine_tune) or self._problem_of_tensors(fine_tune)
        if problem:
            raise CorruptModel(f"The model {fine_tune.version} cannot be used: {problem}")

    @torch.inference_mode()
    def switch_to(self, fine_tune: FineTune) -> None:
        """Makes the networks compute with this model's weights.

        Raises:
            CorruptModel: it does not fit; the buffers are as they were.
            Exception: copying failed; the buffers hold the plain base.
        """
        self.check(fine_tune)
        names = fine_tune.names
        self._keep_originals(names)
        stale = self._changed - names
        self._changed |= names
        self.resident = None
        try:
            for name in stale:
                self._write(name, self._originals[name])
            for name, tensor in fine_tune.replaced.items():
                self._write(name, tensor)
            for name, factors in fine_tune.low_rank.items():
                self._write(name, self._merged(name, factors))
        except BaseException:
            self.restore_base()
            raise
        self._changed = names
        self.resident = fine_tune.version

    @torch.inference_mode()
    def restore_base(self) -> None:
        """Makes the networks compute with the base's weights again."""
        self.resident = None
        for name in sorted(self._changed):
            self._write(name, self._originals[name])
        self._changed = set()

    def _write(self, name: str, tensor: torch.Tensor) -> None:
        weight = self._weights[name]
        weight.copy_(tensor, non_blocking=True)
        self.copied_bytes += weight.nbytes

    def _merged(self, name: str, factors: LowRank) -> torch.Tensor:
        """W + scale * B A, with W the base's."""
        weight = self._weights[name]
        original = self._originals[name].to(weight.device, non_blocking=True)
        up, down = (factor.to(weight.device, weight.dtype).flatten(1) for factor in (factors.up, factors.down))
        return torch.addmm(original.flatten(1), up, down, alpha=factors.scale).view(weight.shape)

    def _keep_originals(self, names: set[str]) -> None:
        """Copies to the host what is about to be changed for the first time."""
        new = {name: TensorLayout.of(self._weights[name]) for name in sorted(names - set(self._originals))}
        pinned = any(weight.is_cuda for weight in self._weights.values())
        copies = allocate(new, pinned=pinned)
        for name, copy in copies.items():
            copy.copy_(self._weights[name])
        self._originals |= copies

    def _problem_of_base(self, fine_tune: FineTune) -> str | None:
        if fine_tune.base_name != self._base_name:
            return f"it was trained on {fine_tune.base_name}, not on {self._base_name}"
        revisions = (fine_tune.base_revision, self._base_revision)
        if None not in revisions and revisions[0] != revisions[1]:
            return f"it was trained on revision {revisions[0]} of {self._base_name}, not on {revisions[1]}"
        return None

    def _problem_of_tensors(self, fine_tune: FineTune) -> str | None:
        if not fine_tune.names:
            return "it has no weights"
        unexpected = sorted(fine_tune.names - set(self._weights))
        if unexpected:
            return f"unexpected weights: {_some(unexpected)}"
        parts = {_part(name) for name in fine_tune.replaced}
        missing = sorted(name for name in self._weights if _part(name) in parts and name not in fine_tune.replaced)
        if missing:
            return f"missing weights: {_some(missing)}"
        for name, tensor in fine_tune.tensors():
            if not tensor.is_floating_point():
                return f"{name} is {tensor.dtype}"
        for name, tensor in fine_tune.replaced.items():
            if tensor.shape != self._weights[name].shape:
                return f"{name} has shape {tuple(tensor.shape)}, not {tuple(self._weights[name].shape)}"
        for name, factors in fine_tune.low_rank.items():
            if not _factors_fit(factors, self._weights[name].shape):
                shapes = f"{tuple(factors.up.shape)} and {tuple(factors.down.shape)}"
                return f"the factors of {name} have shapes {shapes}"
        return None


def _factors_fit(factors: LowRank, shape: torch.Size) -> bool:
    up, down = factors.up, factors.down
    return (
        len(shape) in (2, 4)
        and up.ndim == down.ndim == len(shape)
        and up.shape[0] == shape[0]
        and up.shape[1] == down.shape[0]
        and down.shape[1:] == shape[1:]
        and set(up.shape[2:]) <= {1}
    )


def _part(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
