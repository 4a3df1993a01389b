#!/usr/bin/env bash
# Runs the gateway in the foreground, with the settings of main.env where the environment says nothing else.
# ENLIGHT_PYTHON: the Python to use; without it the project's .venv, or the system's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

while IFS='=' read -r name value; do
  case $name in '' | '#'*) continue ;; esac
  if [ -z "${!name:-}" ]; then export "$name=$value"; fi
done <"$here/main.env"

python=${ENLIGHT_PYTHON:-$here/../.venv/bin/python}
[ -x "$python" ] || python=python3
exec "$python" -m gunicorn --config "$here/gunicorn.conf.py" --pythonpath "$here" "server:create_app()"
