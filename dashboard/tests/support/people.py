"""Somebody who uses the suite: by a browser that is signed in, and by main-api, to see what really is there."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests
from browser import visitor
from local_suite import LocalSuite
from playwright.sync_api import Browser, Page

PHOTOS = Path(__file__).resolve().parents[3] / "demo" / "photos"
LONG_S = 120.0
"""On a machine that does much else."""


@dataclass(frozen=True)
class Person:
    """With a key of a tenant."""

    suite: LocalSuite
    key: str

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str) -> Any:
        """What main-api answers."""
        answer = requests.get(f"{self.suite.url}{path}", headers=self._headers, timeout=LONG_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pictures(self, query: str = "limit=200") -> list[dict[str, Any]]:
        """The gallery, newest first."""
        return list(self.get(f"/v1/pictures?{query}")["pictures"])

    def make_pictures(self, **body: object) -> list[dict[str, Any]]:
        """Has pictures made, in the order in which they came."""
        wanted = {"model_id": "enlight/pocket", "prompt": "a cat on the beach", "num_inference_steps": 2, **body}
        answer = requests.post(f"{self.suite.url}/v1/pictures", json=wanted, headers=self._headers, timeout=LONG_S)
        assert answer.status_code == 200, answer.text
        events = [part.split("\ndata: ") for part in answer.text.strip().split("\n\n")]
        return [json.loads(data) for name, data in events if name == "event: picture"]

    def train(self, model_id: str, **body: object) -> None:
        """Trains a model of a robot that knows next to nothing, in seconds; unless ``body`` says else, a small one."""
        usual = {"instance_prompt": "a sks robot", "photos": _photos(), "preset": "lora", "max_training_steps": 2}
        wanted = {"model_id": model_id, **usual, **body}
        answer = requests.post(f"{self.suite.url}/v1/trainings", json=wanted, headers=self._headers, timeout=LONG_S)
        assert answer.status_code == 202, answer.text
        address = f"/v1/trainings/{answer.json()['id']}"
        until(lambda: self.get(address)["state"] not in ("queued", "running"))
        assert self.get(address)["state"] == "succeeded", self.get(address)

    def exported(self, model_id: str) -> bytes:
        """A small model's file."""
        address = f"{self.suite.url}/v1/models/{model_id}/export?format=safetensors"
        answer = requests.get(address, headers=self._headers, timeout=LONG_S)
        assert answer.status_code == 200, answer.text
        return answer.content

    def bring(self, file: bytes, name: str, instance_prompt: str) -> None:
        """Such a file as a model of one's own."""
        answer = requests.post(
            f"{self.suite.url}/v1/models/import",
            params={"name": name, "base_model": "enlight/pocket", "instance_prompt": instance_prompt},
            data=file,
            headers={**self._headers, "Content-Type": "application/octet-stream"},
            timeout=LONG_S,
        )
        assert answer.status_code == 201, answer.text

    @contextmanager
    def browsing(
        self, browser: Browser, *, viewport: dict[str, int] | None = None, dark: bool = False
    ) -> Iterator[Page]:
        """A page that is signed in."""
        with visitor(browser, self.suite.dashboard.url, viewport=viewport, dark=dark) as page:
            page.goto("/sign-in")
            page.get_by_label("Your API key").fill(self.key)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/make")
            yield page


def until(condition: Callable[[], bool]) -> None:
    """Waits for what is asked of a service, a few times a second."""
    deadline_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to be so"
        time.sleep(0.2)


@cache
def _photos() -> list[str]:
    return [base64.b64encode(photo.read_bytes()).decode() for photo in sorted(PHOTOS.glob("*.png"))[:3]]
