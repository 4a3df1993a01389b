"""Runs the gateway in the foreground: ``python server.py``.

Its settings are those of ``main.env``, the file beside this one, where the environment says nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dotenv import load_dotenv

HERE = Path(__file__).resolve().parent
APP = "enlight.main_api.app:create_app()"


def main() -> None:
    """Becomes gunicorn, which serves until it is told to stop."""
    load_dotenv(HERE / "main.env", interpolate=False)
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(HERE / "gunicorn.conf.py"), APP]
    os.execv(sys.executable, gunicorn)  # noqa: S606 -- no shell is wanted


if __name__ == "__main__":
    main()
