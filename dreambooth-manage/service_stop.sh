#!/usr/bin/env bash
# Stops and removes what service_start.sh started. The volume with the models stays: `service_stop.sh --volumes` drops it.
set -euo pipefail
# shellcheck source=dreambooth-manage/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
case ${1:-} in
  '' | --volumes) ;;
  *) fail "usage: service_stop.sh [--volumes]" ;;
esac

mapfile -t running < <(containers)
if [ ${#running[@]} -gt 0 ]; then
  # nginx first: a new request is refused, not lost in a container that is going.
  for container in "${running[@]}"; do
    if [ "$container" = "$name-nginx" ]; then remove "$container"; fi
  done
  mapfile -t running < <(containers)
  if [ ${#running[@]} -gt 0 ]; then remove "${running[@]}"; fi
fi
if docker network inspect "$name" >/dev/null 2>&1; then docker network rm "$name" >/dev/null; fi
if [ "${1:-}" = --volumes ] && docker volume inspect "$name" >/dev/null 2>&1; then docker volume rm "$name" >/dev/null; fi
if docker volume inspect "$name" >/dev/null 2>&1; then echo "stopped; the volume $name stays"; else echo "stopped; nothing is left"; fi
