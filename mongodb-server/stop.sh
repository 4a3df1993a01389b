#!/usr/bin/env bash
# Stops MongoDB; its data stays. `stop.sh --volumes` removes that, too, for good.
# shellcheck source=/dev/null disable=SC2154
. "$(dirname "$0")/common.sh"

case ${1:-} in
  '') compose down ;;
  --volumes) compose down --volumes ;;
  *)
    echo "usage: stop.sh [--volumes]" >&2
    exit 2
    ;;
esac
