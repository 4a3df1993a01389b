"""The GPU benchmark's script runs to its end on a small model, so that no GPU time is spent on finding its mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "full_size_on_gpu.py"


def test_the_script_measures_every_row(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--tiny", "--steps", "1", "--repeats", "1", "--no-http"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "upsampler.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert len(rows) == 5
    for row in rows.values():
        assert row["failed"] is None
        assert row["median_s"] > 0
    # In one piece ours is their picture
    assert rows["ours, windows 64 / 64"]["levels_from"]["diffusers, one piece"] < 0.5
