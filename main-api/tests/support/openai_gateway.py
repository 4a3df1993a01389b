"""A gateway that listens, and OpenAI's own SDK to ask it: for uploads and fine-tuning, which need no service behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import quick_services
import requests
from gateways import Surroundings, gateway, make_key
from openai import OpenAI

from enlight.main_api.settings import Settings


@dataclass(frozen=True)
class Listening:
    """A gateway with two tenants."""

    url: str
    settings: Settings
    key: str
    strangers_key: str

    def client(self, **options: Any) -> OpenAI:
        """OpenAI's SDK as the first tenant; it tries nothing again."""
        return OpenAI(**{"api_key": self.key, "base_url": f"{self.url}/v1", "max_retries": 0, **options})

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """A request that the SDK would not make."""
        headers = {"Authorization": f"Bearer {self.key}", **arguments.pop("headers", {})}
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=30, **arguments)


@contextmanager
def listening_gateway(around: Surroundings, **changes: Any) -> Iterator[Listening]:
    """A gateway with a database of its own; ``changes`` are settings."""
    settings = around.settings(**changes)
    with gateway(settings) as app, quick_services.served(app) as url:
        yield Listening(url, settings, make_key(settings, "anna"), make_key(settings, "stranger"))
