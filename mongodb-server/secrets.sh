#!/usr/bin/env bash
# Makes the key file and the passwords in MONGO_FOLDER, as far as they are missing: `secrets.sh`. There are no default ones.
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/common.sh"

umask 077
mkdir -p "$MONGO_FOLDER"
# made FILE BYTES: a secret, if it is not there.
made() {
  if [ ! -s "$MONGO_FOLDER/$1" ]; then
    head -c "$2" /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$MONGO_FOLDER/$1"
  fi
}
made keyfile 512
made admin_password 32
made service_password 32
echo "password: $(cat "$MONGO_FOLDER/admin_password")" >"$MONGO_FOLDER/tools.yaml"
