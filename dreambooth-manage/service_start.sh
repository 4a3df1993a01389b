#!/usr/bin/env bash
# Starts dreambooth-api on this machine: one container per GPU, and nginx before them on localhost:2333.
#   service_start.sh                              every GPU that nvidia-smi lists
#   GPUS=0,1 service_start.sh                     these
#   GPUS=none CONTAINERS=2 service_start.sh       two containers on the CPU
# Run again, it leaves what runs with the same settings alone, and replaces what does not. Settings: README.md.
set -euo pipefail
# shellcheck source=dreambooth-manage/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

if [ -z "${GPUS:-}" ]; then
  command -v nvidia-smi >/dev/null && listed=$(nvidia-smi -L) && [ -n "$listed" ] ||
    fail "nvidia-smi finds no GPU. Without one: GPUS=none CONTAINERS=1 $0"
  GPUS=$(seq --separator=, 0 $(($(wc -l <<<"$listed") - 1)))
fi
if [ "$GPUS" = none ]; then
  [[ ${CONTAINERS:-1} =~ ^[1-9][0-9]?$ ]] || fail "CONTAINERS is not a number from 1 to 99: $CONTAINERS"
else
  [[ $GPUS =~ ^[0-9]{1,2}(,[0-9]{1,2})*$ ]] || fail "GPUS is neither none nor numbers with commas between: $GPUS"
  [ -z "${CONTAINERS:-}" ] || fail "CONTAINERS is for GPUS=none; each GPU has one container"
fi
for needed in "$image" "$nginx_image"; do
  docker image inspect "$needed" >/dev/null 2>&1 || docker pull --quiet "$needed" >/dev/null ||
    fail "there is no image $needed, and it cannot be pulled; build it, or name another one (README.md)"
done

GPUS=$GPUS "$here/enlightdreambooth_start.sh"

# state CONTAINER: starting, healthy or unhealthy, or what the engine calls one that does not run.
state() {
  docker inspect --format '{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}' "$1"
}

give_up() {
  echo "the end of $1's log:" >&2
  docker logs --tail 20 "$1" >&2 || true
  fail "$1 $2. Remove everything: $here/service_stop.sh"
}

mapfile -t started < <(containers)
for container in "${started[@]}"; do
  deadline_s=$((SECONDS + ready_timeout_s))
  until [ "$(state "$container")" = healthy ]; do
    [[ $(state "$container") =~ ^(exited|dead|restarting)$ ]] && give_up "$container" "does not start"
    [ $SECONDS -lt $deadline_s ] || give_up "$container" "is not ready after $ready_timeout_s s"
    sleep 1
  done
done
echo "dreambooth-api is ready at http://$address:$port in $((${#started[@]} - 1)) containers; stop it with $here/service_stop.sh"
