# shellcheck shell=bash disable=SC2034
# What the scripts of this folder share; sourced, not run.
#
#   MONGO_PROFILE   cluster, or single: one node for development
#   MONGO_FOLDER    the keyfile and the passwords, made on the first start (data/mongodb)
#   MONGO_DATABASE  enlightai
#   MONGO_BIND      address that the routers' ports are published at (127.0.0.1)
#   MONGO_IMAGE     mongo:8.0
#   MONGO_CPUS, MONGO_MEMORY  limits of each node (1, 3g); MONGO_CACHE_GB: of its cache (1)
set -euo pipefail

mongo_home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=${MONGO_PROFILE:-cluster}
database=${MONGO_DATABASE:-enlightai}
MONGO_FOLDER=$(realpath -m "${MONGO_FOLDER:-$mongo_home/../data/mongodb}")
export MONGO_FOLDER
case $profile in
  cluster)
    router=route1
    data_nodes=(config{1,2,3} shard{1,2,3}-replica{1,2,3})
    ;;
  single)
    router=single
    data_nodes=(single)
    ;;
  *)
    echo "MONGO_PROFILE is cluster or single, not $profile" >&2
    exit 2
    ;;
esac
if ! [[ $database =~ ^[A-Za-z0-9_-]{1,60}$ ]]; then
  echo "MONGO_DATABASE is not valid: $database" >&2
  exit 2
fi

compose() { docker compose --file "$mongo_home/docker-compose.yml" --profile "$profile" "$@"; }

log_in="const databaseName = \"$database\";" # what comes before users.js

# on NODE PROGRAM [SCRIPT...]: runs the program and then scripts/SCRIPT in the shell of that node, from its own machine.
on() {
  local node=$1 program=$2 script
  shift 2
  {
    echo "$program"
    for script in "$@"; do cat "$mongo_home/scripts/$script.js"; done
  } | compose exec -T "$node" bash -c 'cat >/tmp/job.js && mongosh --quiet --norc --file /tmp/job.js'
}
