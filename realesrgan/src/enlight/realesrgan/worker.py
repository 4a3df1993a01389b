"""The child process that owns the device."""

from __future__ import annotations

import torch

from enlight.realesrgan.models import MODELS
from enlight.realesrgan.networks import Networks
from enlight.realesrgan.requests import OPERATION, WorkerConfig
from enlight.realesrgan.upscaler import Upscaler
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.task_pool import serve_tasks
from enlight.servicekit.weight_files import WeightFolder
from enlight.torchkit.device import choose_device, device_state

WEIGHTS_SETTING = "REALESRGAN_WEIGHTS_FOLDER"


def main(channel: ChildChannel, config: WorkerConfig) -> None:
    """Serves requests until the parent asks this process to end. Networks are loaded when they are first used.

    Raises:
        WorkerBroken: the GPU failed; the parent starts another process.
    """
    device = choose_device(config.device)
    if device.type == "cpu" and config.cpu_threads:
        torch.set_num_threads(config.cpu_threads)
    folder = WeightFolder(config.weights_folder, setting=WEIGHTS_SETTING, sha256=config.weights_sha256)
    networks = Networks(folder, device=device, resident=config.resident_networks, fused=config.fused_kernels)
    upscaler = Upscaler(networks, device=device, memory_bytes=config.memory_bytes)

    def state() -> dict[str, object]:
        weights = {spec.name: folder.has(*spec.files) for spec in MODELS.values()}
        return {**device_state(device), **upscaler.counts, "loaded": networks.loaded, "weights": weights}

    serve_tasks(channel, upscaler.handle, threads=config.task_threads, state=state, operation=OPERATION)
