#!/usr/bin/env bash
# step.sh PROGRAM SCRIPT...: runs the program and then scripts/SCRIPT on the node whose network this container shares, which
# is to MongoDB a client of its own machine. suite.yml does with it what init.sh does from outside.
set -euo pipefail
program=$1
shift
{
  echo "$program"
  for script in "$@"; do cat "$(dirname "$0")/scripts/$script.js"; done
} >/tmp/job.js
exec mongosh --quiet --norc --file /tmp/job.js
