#!/usr/bin/env bash
# Starts the suite on this machine: loopback only, no keys, the bundled pocket base model as default.
# Safe to run twice. Logs and process ids go to run/, data to data/. Settings given in the environment win.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p run
export DREAMBOOTH_API_DEFAULT_BASE_MODEL=${DREAMBOOTH_API_DEFAULT_BASE_MODEL:-enlight/pocket}
export DREAMBOOTH_API_PORT=${DREAMBOOTH_API_PORT:-5000}
export BGREM_PORT=${BGREM_PORT:-4000}
export UPSAMPLER_PORT=${UPSAMPLER_PORT:-4455}
export REALESRGAN_PORT=${REALESRGAN_PORT:-11111}

start() {
  dev-scripts/start-service.sh "$1" "http://127.0.0.1:$2" "dev-scripts/$1/start.sh"
}
start dreambooth-api "$DREAMBOOTH_API_PORT"
start bgrem "$BGREM_PORT"
start upsampler "$UPSAMPLER_PORT"
start realesrgan "$REALESRGAN_PORT"

cat <<EOT
The suite is up; each service has its documentation at /docs:
  dreambooth-api  http://127.0.0.1:$DREAMBOOTH_API_PORT   /train, /inference
  bgrem           http://127.0.0.1:$BGREM_PORT   /remove, /remove-opacity
  upsampler       http://127.0.0.1:$UPSAMPLER_PORT   /upsampler (503 until its model is fetched: upsampler/README.md)
  realesrgan      http://127.0.0.1:$REALESRGAN_PORT  /upsampler
Stop it with: make down
EOT
