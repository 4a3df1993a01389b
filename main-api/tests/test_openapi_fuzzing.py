"""What the OpenAPI document promises holds for whatever schemathesis sends to a real gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from described_requests import committed_document, described
from fuzzing import Target, run_schemathesis, running_target


def test_what_the_document_promises_holds(tmp_path: Path) -> None:
    with running_target(tmp_path, real_bgrem=False) as target:
        check(target, tmp_path, examples=5, scenarios=50, deterministic=True)


@pytest.mark.long
def test_what_the_document_promises_holds_for_long(tmp_path: Path) -> None:
    with running_target(tmp_path, real_bgrem=True) as target:
        check(target, tmp_path, examples=200, scenarios=500, deterministic=False)


def check(target: Target, folder: Path, *, examples: int, scenarios: int, deterministic: bool) -> None:
    done = run_schemathesis(target, folder, examples=examples, scenarios=scenarios, deterministic=deterministic)
    assert done.returncode == 0, done.stdout[-20_000:]
    operations = len(described(committed_document()))
    assert re.search(rf"Tested: +{operations}\n", done.stdout), done.stdout[-5_000:]
    assert "Traceback" not in target.log.read_text()
