#!/usr/bin/env bash
# The containers, and how the database sees its shards or its replicas.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

compose ps --all
on "$router" "$log_in" users status
