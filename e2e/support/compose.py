"""The suite's docker-compose.yml, read by the Compose that the development environment has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = Path(sys.executable).with_name("docker-compose")
FILE = ROOT / "docker-compose.yml"
STAND_INS = ROOT / "e2e/compose/compose.test.yml"


def compose(
    arguments: Sequence[str],
    *,
    files: Sequence[Path] = (FILE,),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """``docker compose`` on these files. Of the environment it gets the PATH and what is given, so that nobody's
    settings are in a test."""
    command = [str(COMPOSE), *(word for file in files for word in ("--file", str(file))), *arguments]
    given = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **(environment or {})}
    return subprocess.run(
        command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )  # fmt: skip


def services(profile: str | None = None, **environment: str) -> dict[str, dict[str, Any]]:
    """What the file makes of a profile; without one, of what is committed as the default. A variable of a service that
    would be handed on, and is not given, is left out, as it is for the container."""
    chosen = [] if profile is None else ["--profile", profile]
    done = compose([*chosen, "config", "--format", "json"], environment=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    for service in found.values():
        if "environment" in service:
            service["environment"] = {
                name: value for name, value in service["environment"].items() if value is not None
            }
    return found
