#!/usr/bin/env bash
# Starts the suite on this machine: loopback only, no keys, the bundled pocket base model as default; the cache, the
# queue and the database are the development packages' own servers. Safe to run twice. Logs and process ids go to run/,
# data to data/. Settings given in the environment win.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p run data
export DREAMBOOTH_API_DEFAULT_BASE_MODEL=${DREAMBOOTH_API_DEFAULT_BASE_MODEL:-enlight/pocket}
export DREAMBOOTH_API_PORT=${DREAMBOOTH_API_PORT:-5000}
export BGREM_PORT=${BGREM_PORT:-4000}
export UPSAMPLER_PORT=${UPSAMPLER_PORT:-4455}
export REALESRGAN_PORT=${REALESRGAN_PORT:-11111}
export MAIN_API_PORT=${MAIN_API_PORT:-8040}
cache_port=${CACHE_PORT:-6379} queue_port=${QUEUE_PORT:-6390} mongo_port=${MONGO_PORT:-27117}
export DASHBOARD_PORT=${DASHBOARD_PORT:-8050}
export MAIN_API_KEYS=${MAIN_API_KEYS:-off}
export MAIN_API_DEFAULT_BASE_MODEL=${MAIN_API_DEFAULT_BASE_MODEL:-$DREAMBOOTH_API_DEFAULT_BASE_MODEL}
export MAIN_API_CACHE_URLS=${MAIN_API_CACHE_URLS:-"[\"redis://127.0.0.1:$cache_port/0\"]"}
export MAIN_API_QUEUE_URL=${MAIN_API_QUEUE_URL:-redis://127.0.0.1:$queue_port/0}
export MAIN_API_MONGO_URL=${MAIN_API_MONGO_URL:-mongodb://127.0.0.1:$mongo_port}
export MAIN_API_DREAMBOOTH_URLS=${MAIN_API_DREAMBOOTH_URLS:-"[\"http://127.0.0.1:$DREAMBOOTH_API_PORT\"]"}
export MAIN_API_BGREM_URLS=${MAIN_API_BGREM_URLS:-"[\"http://127.0.0.1:$BGREM_PORT\"]"}
export MAIN_API_UPSAMPLER_URLS=${MAIN_API_UPSAMPLER_URLS:-"[\"http://127.0.0.1:$UPSAMPLER_PORT\"]"}
export MAIN_API_REALESRGAN_URLS=${MAIN_API_REALESRGAN_URLS:-"[\"http://127.0.0.1:$REALESRGAN_PORT\"]"}
export DASHBOARD_MAIN_API_URL=${DASHBOARD_MAIN_API_URL:-http://127.0.0.1:$MAIN_API_PORT}
# Who has to send a key to the gateway signs in with it; else nobody does.
if [ "$MAIN_API_KEYS" = on ]; then auth=key; else auth=off; fi
export DASHBOARD_AUTH=${DASHBOARD_AUTH:-$auth}
export DREAMBOOTH_WORKER_QUEUE_URL=${DREAMBOOTH_WORKER_QUEUE_URL:-$MAIN_API_QUEUE_URL}
export DREAMBOOTH_WORKER_METRICS_PORT=${DREAMBOOTH_WORKER_METRICS_PORT:-5090}
export DREAMBOOTH_WORKER_MONGO_URL=${DREAMBOOTH_WORKER_MONGO_URL:-$MAIN_API_MONGO_URL}

start() {
  dev-scripts/start-service.sh "$@"
}
start cache "port:$cache_port" .venv/bin/python enlight-redis/embedded.py --port "$cache_port" --data data/cache \
  -- --maxmemory 1gb --maxmemory-policy allkeys-lru
start queue "port:$queue_port" .venv/bin/python enlight-redis/embedded.py --port "$queue_port" --data data/queue \
  -- --appendonly yes
start database "port:$mongo_port" .venv/bin/python mongodb-server/embedded.py --port "$mongo_port" --data data/database
start dreambooth-api "http://127.0.0.1:$DREAMBOOTH_API_PORT" dev-scripts/dreambooth-api/start.sh
start bgrem "http://127.0.0.1:$BGREM_PORT" dev-scripts/bgrem/start.sh
start upsampler "http://127.0.0.1:$UPSAMPLER_PORT" dev-scripts/upsampler/start.sh
start realesrgan "http://127.0.0.1:$REALESRGAN_PORT" dev-scripts/realesrgan/start.sh
start dreambooth-worker - dev-scripts/dreambooth-worker/start.sh
start main-api "http://127.0.0.1:$MAIN_API_PORT" dev-scripts/main-api/start.sh
start dashboard "http://127.0.0.1:$DASHBOARD_PORT" dev-scripts/dashboard/start.sh

cat <<EOT
The suite is up. In a browser:
  dashboard       http://127.0.0.1:$DASHBOARD_PORT   photos to pictures, and the suite at a glance
By HTTP; each service has its documentation at /docs:
  main-api        http://127.0.0.1:$MAIN_API_PORT   everything under one roof, no key needed: /train, /inference, /v1/...
  dreambooth-api  http://127.0.0.1:$DREAMBOOTH_API_PORT   /train, /inference
  bgrem           http://127.0.0.1:$BGREM_PORT   /remove, /remove-opacity
  upsampler       http://127.0.0.1:$UPSAMPLER_PORT   /upsampler (503 until its model is fetched: upsampler/README.md)
  realesrgan      http://127.0.0.1:$REALESRGAN_PORT  /upsampler
Stop it with: make down
EOT
