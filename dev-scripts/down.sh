#!/usr/bin/env bash
# Stops what up.sh started, last come first gone: asks first, and insists after 60 seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
# the newest first; the names are ours
mapfile -t pid_files < <(find run -maxdepth 1 -name '*.pid' -printf '%T@ %p\n' 2>/dev/null | sort -rn | cut -d' ' -f2)
if [ ${#pid_files[@]} = 0 ]; then
  echo "nothing runs"
  exit 0
fi
for pid_file in "${pid_files[@]}"; do
  name=$(basename "$pid_file" .pid) pid=$(cat "$pid_file")
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 120); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  if kill -KILL "$pid" 2>/dev/null; then echo "$name had to be killed"; else echo "$name stopped"; fi
  rm -f "$pid_file"
done
