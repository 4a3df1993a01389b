#!/usr/bin/env bash
# Runs the gateway in the foreground on this machine, port 8040 unless MAIN_API_PORT says otherwise.
set -euo pipefail
exec "$(dirname "$0")/../../main-api/start_service.sh"
