"""Settings of bgrem, read once from ``BGREM_*`` and passed down as an argument."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.bgrem.requests import WorkerConfig
from enlight.servicekit.service_settings import ImageServiceSettings


class Settings(ImageServiceSettings):
    """Every field is the environment variable ``BGREM_<FIELD>``; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="BGREM_", frozen=True, extra="forbid")

    port: int = Field(4000, ge=1, le=65535, description="Port to listen on.")

    weights_folder: Path = Field(Path("models/bgrem"), description="Folder that holds the networks' weights.")
    weights_sha256: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of weights of your own, JSON object of file name to hex sum; goes before the published.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="`auto` (CUDA where onnxruntime has it), `cpu`, `cuda`, `cuda:1`.",
    )
    cpu_engine: str = Field(
        "auto",
        pattern=r"^(auto|onnxruntime)$",
        description="What runs the networks on a CPU: `auto` (MNN, a third faster, for each network with which it says "
        "the same as onnxruntime), `onnxruntime`.",
    )
    cpu_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="Threads for a picture that is alone, and in MNN for each in its turn; 0: one a core. "
        "Else a picture gets one.",
    )
    parallel_requests: int = Field(
        2, ge=1, le=64, description="Requests worked on at once; each holds its picture and a network's activations."
    )
    max_matting_pixels: int = Field(
        1_000_000,
        ge=1,
        description="Largest picture for alpha matting, whose solver needs up to 2 kB of memory a pixel.",
    )

    def worker_config(self) -> WorkerConfig:
        """What the worker needs of it."""
        return WorkerConfig(
            weights_folder=self.weights_folder.absolute(),
            weights_sha256=dict(self.weights_sha256),
            device=self.device,
            cpu_engine=self.cpu_engine,
            cpu_threads=self.cpu_threads,
            parallel_requests=self.parallel_requests,
            max_matting_pixels=self.max_matting_pixels,
        )
