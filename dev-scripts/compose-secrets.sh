#!/usr/bin/env bash
# Makes the passwords for docker-compose.yml, once, and the addresses that hold them: `compose-secrets.sh`. Into data/secrets
# (ENLIGHT_SECRETS), MongoDB's into data/mongodb (MONGO_FOLDER). To have new ones, remove the folders and the volumes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${ENLIGHT_SECRETS:-$root/data/secrets}
mongo_folder=${MONGO_FOLDER:-$root/data/mongodb}

# Only this user gets into the folder. Its files can be read by all, because each is mounted alone into the containers that
# need it, whose users are others.
umask 022
mkdir -p "$folder"
chmod 700 "$folder"
made() {
  if [ ! -s "$folder/$1" ]; then
    head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$folder/$1"
  fi
}
made cache_password
made queue_password
made cache_secret
made dashboard_secret
made grafana_password
MONGO_FOLDER=$mongo_folder "$root/mongodb-server/secrets.sh"

echo "mongodb://enlight:$(<"$mongo_folder/service_password")@mongodb:27017/?authSource=admin" >"$folder/mongo_url"
echo "redis://:$(<"$folder/queue_password")@queue:6379/0" >"$folder/queue_url"
echo "[\"redis://:$(<"$folder/cache_password")@cache:6379/0\"]" >"$folder/cache_urls"
echo "the passwords are in $folder and $mongo_folder"
