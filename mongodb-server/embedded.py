"""MongoDB's protocol without MongoDB, for development and tests: ``embedded.py --port 27017 --data FOLDER``.

Runs SecantusDB, on loopback unless it is told otherwise, until SIGTERM or SIGINT. It is GPL and a development package:
it runs in this process of its own, and nothing that Enlight ships imports it. A production set-up has a real MongoDB.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path


def main() -> None:
    """Serves until a signal ends it."""
    parser = argparse.ArgumentParser(description="A small server with MongoDB's protocol, on loopback.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; whoever reaches it may do everything"
    )
    parser.add_argument("--port", type=int, required=True, help="TCP port")
    parser.add_argument("--data", type=Path, required=True, help="folder of its files; made when missing")
    arguments = parser.parse_args()
    try:
        from secantus import SecantusDBServer
    except ImportError:
        raise SystemExit(
            "This needs the development package secantusdb (dev-scripts/requirements-dev.txt; `make setup` installs "
            "it). In production run MongoDB 6 or newer instead."
        ) from None
    arguments.data.mkdir(parents=True, exist_ok=True)
    # Blocked before the server makes its threads, so that only the wait below sees the signals.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    # durable: an acknowledged write outlives kill -9, as with MongoDB's journal.
    server = SecantusDBServer(host=arguments.host, port=arguments.port, storage_path=str(arguments.data), durable=True)
    server.start()
    signal.sigwait(ends)
    server.stop()


if __name__ == "__main__":
    main()
