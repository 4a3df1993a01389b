"""The suite's services as the demo runs them: on loopback, on free ports, with embedded defaults."""

from __future__ import annotations

from pathlib import Path

from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[1]


def dreambooth_api(data_folder: str, log_folder: Path) -> LocalService:
    """Training and generation with the bundled pocket base; everything it keeps is below ``data_folder``."""
    return _service(
        "dreambooth-api",
        log_folder,
        DATA_FOLDER=data_folder,
        MODELS_FOLDER=str(ROOT / "models"),
        DEFAULT_BASE_MODEL="enlight/pocket",
    )


def bgrem(log_folder: Path) -> LocalService:
    """Background removal with the fetched weights."""
    return _service("bgrem", log_folder, WEIGHTS_FOLDER=str(ROOT / "models" / "bgrem"))


def realesrgan(log_folder: Path) -> LocalService:
    """Upscaling with the fetched weights."""
    return _service("realesrgan", log_folder, WEIGHTS_FOLDER=str(ROOT / "models" / "realesrgan"))


def _service(name: str, log_folder: Path, **settings: str) -> LocalService:
    package = name.replace("-", "_")
    return LocalService(
        f"enlight.{package}.app:create_app()",
        gunicorn_config=ROOT / name / "gunicorn.conf.py",
        env_prefix=f"{package.upper()}_",
        settings=settings,
        log=log_folder / f"{name}.log",
    )
