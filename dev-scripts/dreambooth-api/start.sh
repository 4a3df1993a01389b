#!/usr/bin/env bash
# Runs dreambooth-api in the foreground on this machine. A second instance: DREAMBOOTH_API_PORT=5001 and its own
# DREAMBOOTH_API_DATA_FOLDER. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/gunicorn --config dreambooth-api/gunicorn.conf.py "enlight.dreambooth_api.app:create_app()"
