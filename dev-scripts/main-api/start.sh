#!/usr/bin/env bash
# Runs the gateway in the foreground on this machine, port 8040 unless MAIN_API_PORT says otherwise, with the settings of
# main-api/main.env where the environment says nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python main-api/server.py
