"""Small models with known bytes, and how to look at a cache and a bucket from outside."""

from __future__ import annotations

import hashlib
import json
import os
import random
from contextlib import suppress
from pathlib import Path

from enlight.dreambooth_api.model_store import ModelDescription

DESCRIPTION = ModelDescription(
    base_name="enlight/pocket",
    base_revision=None,
    kind="full",
    instance_prompt="a photo of sks dog",
    parameters={"MAX_TRAINING_STEPS": 400, "LR": 2e-6},
)

Content = dict[str, str]
"""SHA-256 by relative path."""


def write_model(folder: Path, seed: int, *, size_bytes: int = 40_000) -> Content:
    """Three files of ``size_bytes`` together, random but the same for one seed."""
    chance = random.Random(seed)
    parts = {
        "unet/diffusion_pytorch_model.safetensors": size_bytes * 3 // 4,
        "text_encoder/model.safetensors": size_bytes // 4 - 200,
        "unet/config.json": 200,
    }
    for path, size in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(chance.randbytes(size))
    return content_of(folder)


def content_of(folder: Path) -> Content:
    """What is in a folder now."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def cache_bytes(cache: Path) -> int:
    """What the cache takes on the disk, as anybody can see it, at least.

    Files come and go while they are counted, so they are looked at twice: those seen both times were there at one
    moment, the one between. At rest this is exact.
    """
    first, second = _sizes(cache), _sizes(cache)
    return sum(min(size, second[key]) for key, size in first.items() if key in second)


def _sizes(cache: Path) -> dict[tuple[str, int], int]:
    sizes = {}
    for name in ("models", "downloads", "quarantine", "trash"):
        for parent, _, files in os.walk(cache / name):  # passes over what disappears meanwhile
            for file in files:
                with suppress(FileNotFoundError):
                    status = Path(parent, file).stat()
                    sizes[f"{parent}/{file}", status.st_ino] = status.st_size
    return sizes


def half_models(cache: Path) -> list[str]:
    """The cache's committed versions that are not what their manifest says; empty when all is well."""
    folders = [parent for parent, _, _ in os.walk(cache / "models")]  # unlike glob, passes over what disappears
    return [name for name in folders if len(Path(name).relative_to(cache).parts) == 3 and _is_half(Path(name))]


def _is_half(folder: Path) -> bool:
    inode = -1
    try:
        inode = folder.stat().st_ino
        files = json.loads((folder / "manifest.json").read_bytes())["files"]
        whole = content_of(folder / "files") == {path: entry["sha256"] for path, entry in files.items()}
    except (OSError, ValueError, KeyError):
        whole = False
    try:
        return not whole and folder.stat().st_ino == inode
    except FileNotFoundError:
        return False  # it was being removed, in one step, while it was looked at


def half_published(bucket: Path) -> list[str]:
    """The bucket's versions (a folder) that have a manifest but not every byte of it; empty when all is well."""
    wrong = []
    for manifest in bucket.glob("*/*/manifest.json"):
        record = json.loads(manifest.read_bytes())
        for path, entry in record.get("files", {}).items():
            file = manifest.parent / entry["sha256"] / path
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
                wrong.append(str(file))
    return wrong
