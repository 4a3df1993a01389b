#!/usr/bin/env bash
# A file of backup.sh back into the database: `restore.sh FILE --replace`. Stop main-api and the workers first.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

if [ $# != 2 ] || [ ! -s "$1" ] || [ "$2" != --replace ]; then
  echo "usage: restore.sh FILE --replace (what is in $database now is replaced)" >&2
  exit 2
fi
on "$router" "$log_in" users empty
compose exec -T "$router" mongorestore --config=/run/secrets/tools --username=admin --authenticationDatabase=admin \
  --nsInclude="$database.*" --stopOnError --gzip --archive <"$1"
