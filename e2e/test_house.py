"""The house keeps its own rules: layout, documents that are true, light weight."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = ("servicekit", "torchkit", "dreambooth-api", "bgrem", "upsampler", "realesrgan", "models")


def tracked() -> list[Path]:
    """Every file that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_namespace_has_no_init_file() -> None:
    assert [path for path in tracked() if path.parts[-3:] == ("src", "enlight", "__init__.py")] == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_each_distribution_is_named_after_its_folder_and_pins_what_it_needs(distribution: str) -> None:
    project = tomllib.loads((ROOT / distribution / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"enlight-{distribution}"
    assert (ROOT / distribution / "src/enlight" / distribution.replace("-", "_")).is_dir()
    for dependency in project["dependencies"]:
        assert dependency.startswith("enlight-") or "==" in dependency, f"{dependency} is not pinned"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_code_sits_in_named_modules_not_in_init_files(distribution: str) -> None:
    for path in (ROOT / distribution / "src").rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert all(isinstance(statement, ast.Expr) for statement in body), f"{path} holds code"


def test_servicekit_never_imports_torch() -> None:
    for path in (ROOT / "servicekit/src").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|diffusers|transformers)\b", path.read_text(), re.MULTILINE), (
            path
        )


def test_the_files_that_the_architecture_page_follows_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    paths = re.findall(r"`((?:servicekit|dreambooth-api|bgrem|models|docs|e2e)/[^`]+\.\w+)`", page)
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_every_link_in_the_documents_leads_somewhere() -> None:
    broken = []
    for page in tracked():
        if page.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
        for target in re.findall(r'<img src="([^"]+)"', page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_generated_documents_are_what_the_code_says() -> None:
    check = subprocess.run(
        [sys.executable, "dev-scripts/generated_docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in tracked():
        if page.suffix == ".md":
            named = set(re.findall(r"`make ([a-z-]+)`", page.read_text()))
            assert named <= targets, f"{page}: {named - targets}"


def test_the_repository_is_light_and_weights_lie_only_below_models() -> None:
    for path in tracked():
        assert path.stat().st_size < 16_000_000, path
        if path.suffix in (".safetensors", ".bin", ".onnx", ".pt", ".ckpt", ".pth"):
            assert path.relative_to(ROOT).parts[0] == "models", path


def test_scripts_are_executable_and_stop_at_errors() -> None:
    for path in tracked():
        if path.suffix == ".sh" or path.relative_to(ROOT).as_posix() == ".ci/run":
            assert path.stat().st_mode & 0o111, path
            assert "set -euo pipefail" in path.read_text(), path


def test_ci_runs_make_test() -> None:
    assert "exec make test" in (ROOT / ".ci/run").read_text()
