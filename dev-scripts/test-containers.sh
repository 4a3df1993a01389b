#!/usr/bin/env bash
# Builds the services' images and runs the tests that need a Docker engine. What is named is built, without a name all:
# test-containers.sh main-api bgrem. About 12 GB of the engine's disk for all with PyTorch, which share its layer.
set -euo pipefail
cd "$(dirname "$0")/.."
docker info >/dev/null 2>&1 || { echo "no Docker engine answers here" >&2; exit 1; }

declare -A image_of=([main-api]=main-api [dashboard]=dashboard [bgrem]=bgrem [dreambooth-api]=enlightaidreamboothapi
  [realesrgan]=realesrganapi [upsampler]=upsampler [dreambooth-base]=enlightaidreambooth)
services=("$@")
[ ${#services[@]} -gt 0 ] || services=(main-api dashboard bgrem dreambooth-api realesrgan upsampler dreambooth-base)
for service in "${services[@]}"; do
  [ -n "${image_of[$service]:-}" ] || { echo "no such service: $service" >&2; exit 2; }
done

# --network host: as the engine's own network has no way to a package index that this machine names by its loopback.
options=(--quiet --network host)
build() {
  local folder=$1 image=$2
  shift 2
  echo "== $image"
  (cd "$folder" && docker build "${options[@]}" "$@" . -t "$image" >/dev/null)
}
dev-scripts/wheels.sh
for service in "${services[@]}"; do
  if [ "$service" = dreambooth-base ]; then
    echo "== enlightdev/enlightaidreambooth"
    dreambooth-base/docker-build.sh "${options[@]}" --build-arg "DEVICE=${DEVICE:-cuda}" >/dev/null
  else
    build "$service" "enlightdev/${image_of[$service]}" --build-arg "DEVICE=${DEVICE:-cuda}"
  fi
done
docker image inspect nginx:1.28-bookworm >/dev/null 2>&1 || docker pull --quiet nginx:1.28-bookworm >/dev/null 2>&1 ||
  build dreambooth-manage/tests/nginx enlight-test-nginx

exec .venv/bin/python -m pytest -m containers -n 0 dreambooth-manage/tests e2e/test_images.py e2e/test_compose.py
