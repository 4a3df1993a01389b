#!/usr/bin/env bash
# Runs the gateway in the foreground, with the settings of main.env where the environment says nothing else.
# ENLIGHT_PYTHON: the Python to use; without it the project's .venv, or the system's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${ENLIGHT_PYTHON:-$here/../.venv/bin/python}
[ -x "$python" ] || python=python3
exec "$python" "$here/server.py"
