#!/usr/bin/env bash
# start-service.sh NAME URL COMMAND...: starts one service in the background unless it runs, waits until it is ready.
set -euo pipefail
name=$1 url=$2
shift 2
pid_file=run/$name.pid log=run/$name.log

if [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
  echo "$name runs already (process $(cat "$pid_file"))"
  exit 0
fi
setsid "$@" >"$log" 2>&1 </dev/null &
echo $! >"$pid_file"

for _ in $(seq 240); do
  if curl --silent --fail --max-time 2 --output /dev/null "$url/ready"; then exit 0; fi
  if ! kill -0 "$(cat "$pid_file")" 2>/dev/null; then
    echo "$name did not start; the end of its log ($log):" >&2
    tail -n 20 "$log" >&2
    rm -f "$pid_file"
    exit 1
  fi
  sleep 0.5
done
echo "$name is not ready after 120 s; its log is $log" >&2
exit 1
