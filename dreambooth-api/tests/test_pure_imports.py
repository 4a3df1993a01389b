"""What is under ``pure/`` computes and does nothing else: it imports no module that could do more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import enlight.dreambooth_api.pure as pure

FOLDER = Path(pure.__path__[0])
ALLOWED = {
    "__future__", "abc", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "inspect",
    "itertools", "math", "numbers", "operator", "typing",
    "torch",
    "diffusers.schedulers", "diffusers.training_utils",
    "enlight.dreambooth_api.pure",
}  # fmt: skip
FORBIDDEN_BELOW_TORCH = ("torch.utils.data", "torch.hub", "torch.distributed", "torch.multiprocessing")
IO_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
IO_ATTRIBUTES = {("torch", "load"), ("torch", "save"), ("torch", "hub"), ("torch", "multiprocessing")}


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def complaints(source: str) -> list[str]:
    tree = ast.parse(source)
    found = [
        f"imports {name}"
        for name in imports(tree)
        if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED)
        or name.startswith(FORBIDDEN_BELOW_TORCH)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IO_CALLS:
            found.append(f"calls {node.func.id}")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in IO_ATTRIBUTES
        ):
            found.append(f"uses {node.value.id}.{node.attr}")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_a_pure_module_imports_only_what_computes(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from pathlib import Path",
        "import requests",
        "from safetensors.torch import load_file",
        "from enlight.dreambooth_api import pipelines",
        "from enlight.servicekit.object_store import open_store",
        "import diffusers",
        "from torch.utils.data import DataLoader",
        "import torch\ntorch.load('weights')",
        "open('file')",
    ],
)
def test_the_check_notices(source: str) -> None:
    assert complaints(source)


def test_the_folder_states_its_law() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "computation only" in text
    assert len(text.strip().splitlines()) == 5
