#!/usr/bin/env bash
# Runs the web page in the foreground on this machine, port 8050 unless DASHBOARD_PORT says otherwise. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/gunicorn --config dashboard/gunicorn.conf.py "enlight.dashboard.app:create_app()"
