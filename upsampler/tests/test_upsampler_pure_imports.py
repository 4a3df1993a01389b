"""What is under ``pure/`` computes and does nothing else: it imports no module that could do more."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import enlight.upsampler.pure as pure

FOLDER = Path(pure.__path__[0])
ALLOWED = {
    "__future__", "collections.abc", "contextlib", "dataclasses", "functools", "inspect", "itertools", "math", "typing",
    "cv2", "numpy", "numpy.typing", "PIL", "torch", "torch.nn", "torch.nn.functional",
    "diffusers.schedulers", "diffusers.schedulers.scheduling_utils",
}  # fmt: skip
FORBIDDEN_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "load", "save", "imread", "imwrite"}


def complaints(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            found += [f"calls {name}"] if name in FORBIDDEN_CALLS else []
        found += [
            f"imports {name}"
            for name in names
            if name not in ALLOWED and not name.startswith("enlight.upsampler.pure.")
        ]
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_a_pure_module_imports_only_what_computes(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from enlight.servicekit.images import encode_png",
        "from enlight.upsampler import worker",
        "import torch\ntorch.load('weights')",
        "open('file')",
    ],
)
def test_the_check_notices(source: str) -> None:
    assert complaints(source)


def test_the_folder_states_its_law() -> None:
    assert "computation only" in (FOLDER / "README.md").read_text(encoding="utf-8")
