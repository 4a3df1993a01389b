#!/usr/bin/env bash
# Replica sets, users, shards and the collections' keys, as far as they are not there; start.sh runs it.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

# replica_set NAME CONFIGSVR NODE...: made on its first node.
replica_set() {
  local name=$1 configsvr=$2 hosts
  shift 2
  hosts=$(printf '"%s:27017",' "$@")
  on "$1" "const replicaSet = { name: \"$name\", hosts: [${hosts%,}], configsvr: $configsvr };" replica_set
}

if [ "$profile" = single ]; then
  replica_set single false single
  on single "$log_in" users
  exit
fi
replica_set config true config1 config2 config3
for shard in shard1 shard2 shard3; do
  replica_set "$shard" false "$shard-replica1" "$shard-replica2" "$shard-replica3"
done
# Only now: a router answers nobody before its config servers are a replica set.
compose up --detach --wait
on route1 "$log_in" users shards
