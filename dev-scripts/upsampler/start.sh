#!/usr/bin/env bash
# Runs upsampler in the foreground on this machine, port 4455 unless UPSAMPLER_PORT says otherwise. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/gunicorn --config upsampler/gunicorn.conf.py "enlight.upsampler.app:create_app()"
