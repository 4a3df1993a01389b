"""Checkpoints of a training: all that the next update depends on, so that a killed job goes on bit by bit.

``checkpoints/step-00000100/`` is a sealed folder: ``weights.safetensors`` and ``optimizer.safetensors``
(fp32, by the parameters' names), ``draws.safetensors`` (generator, recent losses) and ``state.json`` (step,
sampler, GradScaler, fingerprint). The learning rate is a function of the step. Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from enlight.dreambooth_api.checkpoint_names import checkpoint_name, checkpoint_steps
from enlight.dreambooth_api.pure.training import TrainingState
from enlight.dreambooth_api.sealed_folders import BrokenSealError, check_seal, sealed_folder
from enlight.servicekit import atomic_files

_log = logging.getLogger(__name__)

_FORMAT = 1


class Checkpoints:
    """The checkpoints of one job.

    Args:
        folder: Where they lie; nothing else does.
        fingerprint: Identity of the job; checkpoints with another one are never loaded.
        keep: How many stay; the oldest go first.
    """

    def __init__(self, folder: Path, *, fingerprint: str, keep: int) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._keep = keep

    def save(self, state: TrainingState) -> None:
        """Write ``state``; older checkpoints beyond ``keep`` go once it is on the disk.

        Raises:
            OSError: there is no room; the older ones are untouched.
        """
        with sealed_folder(self._folder / checkpoint_name(state.step)) as folder:
            save_file(
                {name: _stored(value) for name, value in state.parameters.items()},
                folder / "weights.safetensors",
            )
            save_file(_optimizer_tensors(state), folder / "optimizer.safetensors")
            draws = {"generator": state.generator.get_state(), "recent_losses": _stored(state.recent_losses)}
            save_file(draws, folder / "draws.safetensors")
            record = {
                "format": _FORMAT,
                "fingerprint": self._fingerprint,
                "step": state.step,
                "sampler": {"order": state.sampler.order, "position": state.sampler.position},
                "grad_scaler": state.grad_scaler.state_dict() if state.grad_scaler else None,
            }
            (folder / "state.json").write_text(json.dumps(record))
        for old in self._newest_first()[self._keep :]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, state: TrainingState) -> bool:
        """Bring ``state`` to the newest whole checkpoint of this job, in place; False when there is none.

        What is broken or belongs to another job is removed, as are the remains of interrupted writes.
        """
        if not self._folder.is_dir():
            return False
        atomic_files.sweep_temporaries(self._folder, older_than_s=0)  # a job has one trainer at a time
        restored = False
        for folder in self._newest_first():
            if restored:
                break
            try:
                check_seal(folder)
                self._load(folder, state)
                restored = True
            except (BrokenSealError, SafetensorError, OSError, ValueError, KeyError) as error:
                _log.warning("checkpoint %s is not used: %s", folder.name, error)
                shutil.rmtree(folder, ignore_errors=True)
        return restored

    def _load(self, folder: Path, state: TrainingState) -> None:
        record: dict[str, Any] = json.loads((folder / "state.json").read_bytes())
        if record["format"] != _FORMAT or record["fingerprint"] != self._fingerprint:
            raise ValueError("it belongs to another job")
        weights = load_file(folder / "weights.safetensors")
        if weights.keys() != state.parameters.keys():
            raise ValueError("it holds other weights")
        moments = load_file(folder / "optimizer.safetensors")
        draws = load_file(folder / "draws.safetensors")
        # Everything was read; from here on the state changes.
        with torch.no_grad():
            for name, parameter in state.parameters.items():
                parameter.copy_(weights[name])
        _load_optimizer(state, moments)
        state.generator.set_state(draws["generator"])
        state.recent_losses.copy_(draws["recent_losses"])
        state.sampler.order = record["sampler"]["order"]
        state.sampler.position = record["sampler"]["position"]
        if state.grad_scaler is not None and record["grad_scaler"] is not None:
            state.grad_scaler.load_state_dict(record["grad_scaler"])
        state.step = record["step"]

    def _newest_first(self) -> list[Path]:
        return [self._folder / checkpoint_name(step) for step in checkpoint_steps(self._folder)]


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """A plain copy on the CPU; channels_last and the like are a matter of the running job."""
    return tensor.detach().cpu().contiguous()


def _optimizer_tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    """AdamW's ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter as ``<parameter>/<moment>``."""
    return {
        f"{name}/{moment}": _stored(value)
        for name, parameter in state.parameters.items()
        for moment, value in state.optimizer.state[parameter].items()
    }


def _load_optimizer(state: TrainingState, moments: dict[str, torch.Tensor]) -> None:
    indices = {name: index for index, name in enumerate(state.parameters)}
    per_parameter: dict[int, dict[str, torch.Tensor]] = {index: {} for index in indices.values()}
    for key, value in moments.items():
        name, _, moment = key.rpartition("/")
        parameter = state.parameters[name]
        if value.shape == parameter.shape:  # fused AdamW wants the parameter's memory layout
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        per_parameter[indices[name]][moment] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
