#!/usr/bin/env bash
# Runs bgrem in the foreground on this machine, port 4000 unless BGREM_PORT says otherwise. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/gunicorn --config bgrem/gunicorn.conf.py "enlight.bgrem.app:create_app()"
