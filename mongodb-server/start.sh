#!/usr/bin/env bash
# Starts MongoDB and sets it up, as far as it is not: `start.sh`. Settings are in common.sh.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

umask 077
mkdir -p "$MONGO_FOLDER"
# made FILE BYTES: a secret, if it is not there. There are no default ones.
made() {
  if [ ! -s "$MONGO_FOLDER/$1" ]; then
    head -c "$2" /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$MONGO_FOLDER/$1"
  fi
}
made keyfile 512
made admin_password 32
made service_password 32
echo "password: $(cat "$MONGO_FOLDER/admin_password")" >"$MONGO_FOLDER/tools.yaml"

compose up --detach --wait "${data_nodes[@]}"
"$mongo_home/init.sh"
echo "MongoDB runs; main-api takes it as"
case $profile in
  cluster) hosts=127.0.0.1:27117,127.0.0.1:27118 options='' ;;
  single) hosts=127.0.0.1:27117 options='&directConnection=true' ;;
esac
echo "  MAIN_API_MONGO_URL=mongodb://enlight:PASSWORD@$hosts/?authSource=admin$options"
echo "  MAIN_API_MONGO_DATABASE=$database"
echo "with the password in $MONGO_FOLDER/service_password"
