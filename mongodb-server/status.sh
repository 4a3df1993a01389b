#!/usr/bin/env bash
# The containers, and how the database sees its shards or its replicas.
# shellcheck source=/dev/null disable=SC2154
. "$(dirname "$0")/common.sh"

compose ps --all
on "$router" "$log_in" users status
