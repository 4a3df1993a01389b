#!/usr/bin/env bash
# Stops MongoDB; its data stays. `stop.sh --volumes` removes that, too, for good.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

case ${1:-} in
  '') compose down ;;
  --volumes) compose down --volumes ;;
  *)
    echo "usage: stop.sh [--volumes]" >&2
    exit 2
    ;;
esac
