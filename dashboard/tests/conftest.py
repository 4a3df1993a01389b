"""The whole suite with keys and the page before it, once for each test process; and a browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import requests
from browser import chromium
from local_suite import LocalSuite
from playwright.sync_api import Browser

from enlight.servicekit.local_service import settings_environment

MakeKey = Callable[[str], str]


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    """On the pocket base, with keys and sign-in. `suite.dashboard.url` is the page's address."""
    folder = tmp_path_factory.mktemp("suite")
    # Webhooks go to receivers of the tests, and are given up at once.
    main_api = {"KEYS": "on", "WEBHOOK_PRIVATE_ADDRESSES": "true", "WEBHOOK_ATTEMPTS": "1"}
    settings = {"MAIN_API_": main_api, "DASHBOARD_": {"AUTH": "key", "SECRET": "only for these tests " * 2}}
    with LocalSuite(folder / "data", folder, page=True, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def admin_key(suite: LocalSuite) -> str:
    """A key of scope admin, made as an operator makes the first one."""
    made = subprocess.run(
        [sys.executable, "-m", "enlight.main_api.keys.command", "create", "--tenant", "house", "--scope", "admin"],
        env=settings_environment("MAIN_API_", {"MONGO_URL": suite.database_url}),
        capture_output=True,
        text=True,
        check=True,
    )
    (key,) = re.findall(r"enl_\S+", made.stdout)
    return str(key)


@pytest.fixture(scope="session")
def make_key(suite: LocalSuite, admin_key: str) -> MakeKey:
    """Makes a key of scope user for a tenant."""

    def make(tenant: str) -> str:
        answer = requests.post(
            f"{suite.url}/v1/keys",
            json={"tenant": tenant},
            headers={"Authorization": f"Bearer {admin_key}"},
            timeout=30,
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Only for a module: as long as it lasts the thread has an event loop, over which others stumble."""
    with chromium() as running:
        yield running
