#!/usr/bin/env bash
# Everything of the database into one file: `backup.sh FILE`. Writes wait while it runs, in a cluster.
# shellcheck disable=SC2154 # they are set in common.sh
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

if [ $# != 1 ] || [ -e "$1" ]; then
  echo "usage: backup.sh FILE, which must not be there yet" >&2
  exit 2
fi
umask 077
finish() {
  rm -f "$1.partial"
  if [ "$profile" = cluster ]; then on route1 "$log_in" users resume; fi
}
trap 'finish "$1"' EXIT
if [ "$profile" = cluster ]; then on route1 "$log_in" users pause; fi
# The password comes from a file: a command line can be read by others.
compose exec -T "$router" mongodump --config=/run/secrets/tools --username=admin --authenticationDatabase=admin \
  --db="$database" --gzip --archive >"$1.partial"
mv "$1.partial" "$1" # a file with this name is whole
