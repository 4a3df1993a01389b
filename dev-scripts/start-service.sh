#!/usr/bin/env bash
# start-service.sh NAME READY COMMAND...: starts one program in the background unless it runs, waits until it is ready.
# READY is the address of a service that answers /ready, or port:NUMBER, or -: nobody waits for it.
set -euo pipefail
name=$1 ready=$2
shift 2
pid_file=run/$name.pid log=run/$name.log

is_ready() {
  case $ready in
    -) return 0 ;;
    port:*) (exec 3<>"/dev/tcp/127.0.0.1/${ready#port:}") 2>/dev/null ;;
    *) curl --silent --fail --max-time 2 --output /dev/null "$ready/ready" ;;
  esac
}

if [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
  echo "$name runs already (process $(cat "$pid_file"))"
  exit 0
fi
setsid "$@" >"$log" 2>&1 </dev/null &
echo $! >"$pid_file"

for _ in $(seq 240); do
  if is_ready; then exit 0; fi
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
