# shellcheck shell=bash disable=SC2034
# What the three scripts share: names, and settings from the environment; sourced, not run. README.md explains each.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${ENLIGHT_NAME:-enlight-dreambooth} # of network and volume; the containers are <name>-0, <name>-1, ... and <name>-nginx
image=${ENLIGHT_IMAGE:-enlightdev/enlightaidreamboothapi:latest}
nginx_image=${ENLIGHT_NGINX_IMAGE:-nginx:1.28-bookworm}
address=${ENLIGHT_ADDRESS:-127.0.0.1}
port=${ENLIGHT_PORT:-2333}
network=${ENLIGHT_NETWORK:-10.233.23} # the first three numbers of the containers' addresses
models=${ENLIGHT_MODELS:-}
stop_timeout_s=60 # a training writes its checkpoint within 30 s (DREAMBOOTH_API_TRAINING_STOP_GRACE_S)
ready_timeout_s=300

fail() {
  echo "$(basename "$0"): $1" >&2
  exit 1
}

command -v docker >/dev/null || fail "docker is not installed: https://docs.docker.com/engine/install/"
docker info >/dev/null 2>&1 || fail "the Docker engine does not answer; does it run, and may $(id -un) use it?"

# containers: prints the names of those that there are, running or not.
containers() {
  docker ps --all --filter "label=enlight.suite=$name" --format '{{.Names}}'
}

# remove CONTAINER...: asks them all to stop, then removes them.
remove() {
  docker stop -t $stop_timeout_s "$@" >/dev/null
  docker rm --force --volumes "$@" >/dev/null
}
