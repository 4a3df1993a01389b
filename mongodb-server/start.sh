#!/usr/bin/env bash
# Starts MongoDB and sets it up, as far as it is not: `start.sh`. Settings are in common.sh.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

"$mongo_home/secrets.sh"
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
