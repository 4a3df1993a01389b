#!/usr/bin/env bash
# Starts one Redis (or Valkey) in the foreground: `start-redis.sh` the cache, `start-redis.sh queue` the queue.
#
#   REDIS_FOLDER     its files, and its password, made on the first start (data/redis-cache, data/redis-queue)
#   REDIS_PORT       6379; the queue 6390
#   REDIS_BIND       127.0.0.1; other addresses as a space-separated list
#   REDIS_MAXMEMORY  4gb; the queue has no limit
#   REDIS_SERVER     path of the server, where it is not in the PATH
#
# main-api takes it as MAIN_API_CACHE_URLS='["redis://:PASSWORD@127.0.0.1:6379/0"]', MAIN_API_QUEUE_URL likewise.
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

role=${1:-cache}
case $role in
  cache) default_port=6379 ;;
  queue) default_port=6390 ;;
  *)
    echo "usage: start-redis.sh [cache|queue]" >&2
    exit 2
    ;;
esac
folder=${REDIS_FOLDER:-$redis_home/../data/redis-$role}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
server=()
find_server
password=$(password_in "$folder/password")

# In a file that only this user can read: a command line is visible to everybody on the machine.
umask 077
{
  echo "include \"$redis_home/single_redis/config/redis.conf\""
  echo "bind ${REDIS_BIND:-127.0.0.1}"
  echo "port ${REDIS_PORT:-$default_port}"
  echo "dir \"$folder\""
  echo "requirepass $password"
  if [ "$role" = queue ]; then
    # No dispatched job is evicted.
    printf '%s\n' 'maxmemory 0' 'maxmemory-policy noeviction'
  fi
  if [ -n "${REDIS_MAXMEMORY:-}" ]; then echo "maxmemory $REDIS_MAXMEMORY"; fi
} >"$folder/server.conf"
exec "${server[@]}" "$folder/server.conf"
