"""The gateway runs on machines without PyTorch: what it imports is on a list."""

from __future__ import annotations

import subprocess
import sys

ALLOWED = {
    # of ours
    "enlight",
    # HTTP
    "flask", "flask_openapi", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "click", "blinker", "gunicorn",
    "urllib3", "prometheus_client",
    # data
    "pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "typing_extensions", "typing_inspection",
    "dotenv",
    # stores
    "pymongo", "bson", "gridfs", "dns", "redis", "rq", "croniter", "dateutil", "six",
    # what pymongo and redis-py use where it happens to be
    "cryptography", "_cffi_backend", "_openssl", "opentelemetry", "psutil", "snappy", "zstandard",
    "hiredis",
    # photos, which are checked here
    "numpy", "cv2", "PIL", "pillow_heif", "_pillow_heif", "pybase64", "isal",
}  # fmt: skip
_PROGRAM = """
import sys
before = set(sys.modules)
import enlight.main_api.app, enlight.main_api.keys.command
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
"""


def test_the_gateway_imports_nothing_that_is_not_on_the_list() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    imported = {name for name in done.stdout.split() if not name.startswith(("__", "_sysconfigdata"))}
    assert "flask" in imported
    assert imported - ALLOWED == set()


def test_the_list_has_no_pytorch() -> None:
    heavy = {"torch", "torchvision", "diffusers", "transformers", "safetensors", "peft", "accelerate", "onnxruntime"}
    assert heavy & ALLOWED == set()
