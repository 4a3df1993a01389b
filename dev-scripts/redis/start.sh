#!/usr/bin/env bash
# Runs a Redis (or Valkey) in the foreground on this machine: `start.sh` the cache, port 6379 unless REDIS_PORT says
# otherwise, `start.sh queue` the queue, port 6390. A second instance: REDIS_PORT and its own REDIS_FOLDER.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec enlight-redis/start-redis.sh "$@"
