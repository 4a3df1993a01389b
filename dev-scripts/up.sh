#!/usr/bin/env bash
# Starts the suite on this machine: loopback only, no keys, the bundled pocket base model as default.
# Safe to run twice. Logs and process ids go to run/, data to data/. Settings given in the environment win.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p run
export DREAMBOOTH_API_DEFAULT_BASE_MODEL=${DREAMBOOTH_API_DEFAULT_BASE_MODEL:-enlight/pocket}
export DREAMBOOTH_API_PORT=${DREAMBOOTH_API_PORT:-5000}

dev-scripts/start-service.sh dreambooth-api "http://127.0.0.1:$DREAMBOOTH_API_PORT" dev-scripts/dreambooth-api/start.sh

echo "The suite is up:"
echo "  dreambooth-api  http://127.0.0.1:$DREAMBOOTH_API_PORT      /train, /inference; documentation at /docs"
echo "Stop it with: make down"
