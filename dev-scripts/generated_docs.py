"""Writes docs/settings.md, api.md, metrics.md, openapi/ and .env.example from the code; ``--check`` only compares."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from api_docs.page import api_page
from metrics_page import metrics_page
from openapi_documents import openapi_documents

from enlight.bgrem.settings import Settings as BgremSettings
from enlight.dashboard.settings import Settings as DashboardSettings
from enlight.dreambooth_api.settings import Settings as DreamboothApiSettings
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.main_api.settings import Settings as MainApiSettings
from enlight.realesrgan.settings import Settings as RealesrganSettings
from enlight.servicekit.settings import ServiceSettings, env_example, settings_table
from enlight.upsampler.settings import Settings as UpsamplerSettings

ROOT = Path(__file__).resolve().parents[1]
SERVICES: dict[str, type[ServiceSettings]] = {
    "main-api": MainApiSettings,
    "dashboard": DashboardSettings,
    "dreambooth-api": DreamboothApiSettings,
    "dreambooth-api as worker": WorkerSettings,
    "bgrem": BgremSettings,
    "upsampler": UpsamplerSettings,
    "realesrgan": RealesrganSettings,
}

INTRODUCTION = """# Settings

Each service reads its settings once, at start, from environment variables with its own prefix. A variable with the
prefix that is not in its table (a misspelt one) stops the start and names the nearest that exists; so does a value out
of range. `<VARIABLE>_FILE` names a file that holds the value instead, for what holds a password. Times are in seconds,
sizes in bytes, as the names say. Where traces go is said by OpenTelemetry's own variables
([Traces](operations.md#traces)). This page and [.env.example](../.env.example) are made from the classes by `make
docs`; a test compares them.
"""


def pages() -> dict[Path, str]:
    """What each document must hold."""
    tables = []
    examples = []
    for service, settings in SERVICES.items():
        rows = [
            f"| `{row.name}` | {row.type} | {row.default} | {row.help} |".replace("  ", " ")
            for row in settings_table(settings)
        ]
        header = f"\n## {service}\n\n| variable | type | default | meaning |\n| --- | --- | --- | --- |\n"
        tables.append(header + "\n".join(rows) + "\n")
        examples.append(env_example(settings))
    folder = ROOT / "docs" / "openapi"
    described = openapi_documents(folder)
    documents = {path.stem: json.loads(text) for path, text in described.items() if path.parent == folder}
    return {
        ROOT / "docs" / "settings.md": INTRODUCTION + "".join(tables),
        ROOT / ".env.example": "\n".join(examples),
        ROOT / "docs" / "metrics.md": metrics_page(),
        **described,
        **({ROOT / "docs" / "api.md": api_page(documents)} if "main-api" in documents else {}),
    }


def _stale() -> dict[Path, str]:
    return {path: text for path, text in pages().items() if not path.is_file() or path.read_text() != text}


def main() -> int:
    """Writes or compares; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which document is not up to date")
    check = parser.parse_args().check
    if check:
        stale = _stale()
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the code says: run `make docs`")
        return 1 if stale else 0
    for _ in range(2):  # the gateway's document is made with a page of the first round
        for path, text in _stale().items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
