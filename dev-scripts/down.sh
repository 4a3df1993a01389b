#!/usr/bin/env bash
# Stops what up.sh started: asks first, and insists after 60 seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
for pid_file in run/*.pid; do
  [ -e "$pid_file" ] || { echo "nothing runs"; exit 0; }
  name=$(basename "$pid_file" .pid) pid=$(cat "$pid_file")
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 120); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  if kill -KILL "$pid" 2>/dev/null; then echo "$name had to be killed"; else echo "$name stopped"; fi
  rm -f "$pid_file"
done
