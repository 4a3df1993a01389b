#!/usr/bin/env bash
# Runs the gateway's image in the background on this machine's network, with the settings of main.env, the file beside
# this one; what is set in the environment already wins. Run again, it replaces the container. Without Docker:
# python server.py. ENLIGHT_NAME: of the container and of its volume; ENLIGHT_IMAGE: the image.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${ENLIGHT_NAME:-main-api} image=${ENLIGHT_IMAGE:-enlightdev/main-api:latest}
command -v docker >/dev/null || { echo "docker is not installed; without it: python $here/server.py" >&2; exit 1; }
docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null ||
  { echo "there is no image $image: make wheels, then cd $here && docker build . -t $image" >&2; exit 1; }

settings=(--env-file "$here/main.env")
for variable in $(compgen -e MAIN_API_ || true); do settings+=(--env "$variable"); done
if docker stop -t 20 "$name" >/dev/null 2>&1; then docker rm "$name" >/dev/null; fi
docker run --detach --name "$name" --network host --restart unless-stopped --read-only --tmpfs /tmp --cap-drop ALL \
  --security-opt no-new-privileges --volume "$name:/data" "${settings[@]}" "$image" >/dev/null
echo "the gateway runs as container $name; its log: docker logs -f $name, its end: docker rm -f $name"
