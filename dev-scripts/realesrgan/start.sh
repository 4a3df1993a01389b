#!/usr/bin/env bash
# Runs realesrgan in the foreground on this machine, port 11111 unless REALESRGAN_PORT says otherwise. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/gunicorn --config realesrgan/gunicorn.conf.py "enlight.realesrgan.app:create_app()"
