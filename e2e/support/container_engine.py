"""The Docker engine of this machine, for tests that are skipped where there is none."""

from __future__ import annotations

import subprocess
from functools import cache

import pytest


def docker(*arguments: str) -> str:
    """What the command prints, the containers' own standard error included."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout + done.stderr


@cache
def has_engine() -> bool:
    """Whether one answers."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False


@cache
def has_image(name: str) -> bool:
    """Whether the engine has it; nothing is pulled."""
    command = ["docker", "image", "inspect", name]
    return has_engine() and subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def needs_image(name: str) -> list[pytest.MarkDecorator]:
    """Marks of a test that runs this image."""
    return [
        pytest.mark.skipif(not has_engine(), reason="no Docker engine answers here"),
        pytest.mark.skipif(not has_image(name), reason=f"the image {name} is not built: make test-containers"),
    ]
