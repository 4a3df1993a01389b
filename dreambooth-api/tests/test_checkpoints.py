from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from enlight.dreambooth_api.checkpoints import Checkpoints
from enlight.dreambooth_api.pure.training import RECENT_LOSSES, PhotoSampler, TrainingState


def _state(seed: int = 0, *, scaler: bool = False) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(5, 2))
    parameters = dict(network.named_parameters())
    return TrainingState(
        parameters=parameters,
        optimizer=torch.optim.AdamW(parameters.values(), lr=0.1, fused=True),
        grad_scaler=torch.amp.GradScaler("cpu", init_scale=64.0) if scaler else None,
        sampler=PhotoSampler(5),
        generator=torch.Generator().manual_seed(seed),
        recent_losses=torch.zeros(RECENT_LOSSES),
    )


def _advance(state: TrainingState, steps: int) -> None:
    """Updates whose gradients depend on everything that a checkpoint holds."""
    for _ in range(steps):
        drawn = sum(state.sampler.draw(2, state.generator))
        for parameter in state.parameters.values():
            parameter.grad = drawn + torch.randn(parameter.shape, generator=state.generator)
        state.optimizer.step()
        state.recent_losses[state.step % RECENT_LOSSES] = drawn
        state.step += 1


def _checkpoints(folder: Path, *, fingerprint: str = "job", keep: int = 2) -> Checkpoints:
    return Checkpoints(folder / "checkpoints", fingerprint=fingerprint, keep=keep)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def _assert_same(one: TrainingState, other: TrainingState) -> None:
    assert one.step == other.step
    assert torch.equal(one.recent_losses, other.recent_losses)
    for name, parameter in one.parameters.items():
        assert torch.equal(parameter, other.parameters[name])


def test_a_restored_state_goes_on_bit_by_bit(tmp_path: Path) -> None:
    # Given a checkpoint after three updates of a run of seven
    state = _state()
    _advance(state, 3)
    _checkpoints(tmp_path).save(state)
    _advance(state, 4)

    # When it is restored into a state that knows nothing, and goes on
    restored = _state(seed=1)
    assert _checkpoints(tmp_path).restore(restored)
    assert restored.step == 3
    _advance(restored, 4)

    # Then both are the same, to the last bit
    _assert_same(state, restored)


def test_a_grad_scaler_is_restored(tmp_path: Path) -> None:
    state = _state(scaler=True)
    _advance(state, 1)
    assert state.grad_scaler is not None
    state.grad_scaler.load_state_dict({**state.grad_scaler.state_dict(), "scale": 8.0, "_growth_tracker": 3})
    _checkpoints(tmp_path).save(state)
    restored = _state(seed=1, scaler=True)
    assert _checkpoints(tmp_path).restore(restored)
    assert restored.grad_scaler is not None
    assert restored.grad_scaler.state_dict() == state.grad_scaler.state_dict()


def test_moments_take_the_layout_of_their_weights(tmp_path: Path) -> None:
    # Given a state whose weights are channels_last, as on a GPU
    state = _state()
    weight = state.parameters["0.weight"]
    weight.data = weight.data.to(memory_format=torch.channels_last)
    _advance(state, 2)
    _checkpoints(tmp_path).save(state)

    # When it is restored
    restored = _state(seed=1)
    restored.parameters["0.weight"].data = weight.data.clone().to(memory_format=torch.channels_last)
    assert _checkpoints(tmp_path).restore(restored)

    # Then the optimiser's tensors are laid out like the weights, which fused AdamW needs
    moments = restored.optimizer.state[restored.parameters["0.weight"]]
    assert moments["exp_avg"].stride() == weight.stride()
    assert moments["exp_avg_sq"].stride() == weight.stride()
    _advance(state, 2)
    _advance(restored, 2)
    _assert_same(state, restored)


def test_nothing_is_restored_where_there_is_nothing(tmp_path: Path) -> None:
    state = _state()
    assert not _checkpoints(tmp_path).restore(state)
    _assert_same(state, _state())


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    state = _state()
    for _ in range(4):
        _advance(state, 5)
        _checkpoints(tmp_path, keep=2).save(state)
    assert _names(tmp_path) == ["step-00000015", "step-00000020"]


def _truncate(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"")


def _flip_a_bit(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def _forget_the_seal(folder: Path) -> None:
    (folder / "SEAL.json").unlink()


def _forget_the_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, _forget_the_seal, _forget_the_state, _empty])
def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    # Given checkpoints after two and after four updates, the newer one damaged
    state = _state()
    _advance(state, 2)
    _checkpoints(tmp_path).save(state)
    after_two = _state(seed=1)
    assert _checkpoints(tmp_path).restore(after_two)
    _advance(state, 2)
    _checkpoints(tmp_path).save(state)
    damage(tmp_path / "checkpoints" / "step-00000004")

    # When a state is restored
    restored = _state(seed=2)
    assert _checkpoints(tmp_path).restore(restored)

    # Then it is the older one, whole, and the broken one is gone
    _assert_same(restored, after_two)
    assert _names(tmp_path) == ["step-00000002"]


def test_the_checkpoint_of_another_job_is_never_used(tmp_path: Path) -> None:
    state = _state()
    _advance(state, 2)
    _checkpoints(tmp_path, fingerprint="another job").save(state)
    fresh = _state(seed=1)
    assert not _checkpoints(tmp_path).restore(fresh)
    _assert_same(fresh, _state(seed=1))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("more", ["in the checkpoint", "in the job"])
def test_the_checkpoint_of_other_weights_is_not_used(tmp_path: Path, more: str) -> None:
    state, fresh = _state(), _state(seed=1)
    _advance(state, 2)
    fewer = state if more == "in the job" else fresh
    fewer.parameters = {name: fewer.parameters[name] for name in list(fewer.parameters)[:2]}
    _checkpoints(tmp_path).save(state)
    before = {name: parameter.detach().clone() for name, parameter in fresh.parameters.items()}
    assert not _checkpoints(tmp_path).restore(fresh)
    assert all(torch.equal(before[name], parameter) for name, parameter in fresh.parameters.items())


def test_remains_of_interrupted_writes_are_swept(tmp_path: Path) -> None:
    # Given what a killed process leaves while it writes
    state = _state()
    _advance(state, 2)
    _checkpoints(tmp_path).save(state)
    remains = tmp_path / "checkpoints" / ".step-00000004.0123456789abcdef.tmp"
    remains.mkdir()
    (remains / "weights.safetensors").write_bytes(b"half")

    # When a state is restored
    assert _checkpoints(tmp_path).restore(_state(seed=1))

    # Then only the whole checkpoint is left
    assert _names(tmp_path) == ["step-00000002"]


def test_a_failed_write_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    # Given a whole checkpoint
    state = _state()
    _advance(state, 2)
    _checkpoints(tmp_path).save(state)
    _advance(state, 2)

    # When the next one fails after its weights were written
    class FullDisk:
        def get_state(self) -> torch.Tensor:
            raise OSError("no room")

    state.generator = FullDisk()  # type: ignore[assignment]
    with pytest.raises(OSError, match="no room"):
        _checkpoints(tmp_path, keep=1).save(state)

    # Then the older one is there, and no temporary
    assert _names(tmp_path) == ["step-00000002"]
    assert _checkpoints(tmp_path).restore(_state(seed=1))
