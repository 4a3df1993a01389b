#!/usr/bin/env bash
# Network, volume, a container of dreambooth-api per GPU, nginx: what service_start.sh runs when it has checked what
# there is. GPUS: numbers with commas between, or none; then CONTAINERS says how many.
set -euo pipefail
# shellcheck source=dreambooth-manage/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
: "${GPUS:?start the service with service_start.sh}"

if [ "$GPUS" = none ]; then
  mapfile -t numbers < <(seq 0 $((${CONTAINERS:-1} - 1)))
else
  IFS=, read -r -a numbers <<<"$GPUS"
fi

docker volume inspect "$name" >/dev/null 2>&1 || docker volume create "$name" >/dev/null
docker network inspect "$name" >/dev/null 2>&1 ||
  docker network create --subnet "$network.0/24" "$name" >/dev/null ||
  fail "cannot make a network of $network.0/24; ENLIGHT_NETWORK names another one"

# run CONTAINER HOST-NUMBER ARGUMENT...: has it run with these arguments, and no other one of that name. Its address
# is fixed: nginx looks servers up once, and a container that is started again may get another one.
run() {
  local container=$1 host_number=$2 settings
  shift 2
  settings=$({ printf '%s\n' "$host_number" "$@"; env | grep '^DREAMBOOTH_API_' | sort || true; } | sha256sum | cut -d' ' -f1)
  if [ "$(docker inspect --format '{{.State.Running}} {{index .Config.Labels "enlight.settings"}}' "$container" 2>/dev/null)" = "true $settings" ]; then
    echo "$container runs already"
    return
  fi
  if docker inspect "$container" >/dev/null 2>&1; then remove "$container"; fi
  docker run --detach --name "$container" --label "enlight.suite=$name" --label "enlight.settings=$settings" \
    --network "$name" --ip "$network.$host_number" --restart unless-stopped --stop-timeout "$stop_timeout_s" \
    --read-only --tmpfs /tmp:exec --cap-drop ALL --security-opt no-new-privileges "$@" >/dev/null
  echo "$container started"
}

image_id() {
  docker image inspect --format '{{.Id}}' "$1"
}

# Labels, so that a new image or other files of nginx are other arguments.
settings_given=(--label "enlight.image=$(image_id "$image")")
for variable in $(compgen -e DREAMBOOTH_API_ || true); do settings_given+=(--env "$variable"); done
if [ -n "$models" ]; then settings_given+=(--volume "$(cd "$models" && pwd):/models:ro"); fi
if [ -n "${GOOGLE_APPLICATION_CREDENTIALS:-}" ]; then
  settings_given+=(--volume "$(realpath "$GOOGLE_APPLICATION_CREDENTIALS"):/run/google.json:ro"
    --env GOOGLE_APPLICATION_CREDENTIALS=/run/google.json)
fi

wanted=("$name-nginx") servers=()
for number in "${numbers[@]}"; do
  gpu=(--gpus "device=$number")
  if [ "$GPUS" = none ]; then gpu=(--env DREAMBOOTH_API_DEVICE=cpu); fi
  # The cache of models, and the bucket where no other is named, are everybody's; trainings under way are each one's.
  run "$name-$number" $((10 + number)) --volume "$name:/data" \
    --env DREAMBOOTH_API_MODEL_CACHE_FOLDER=/data/model-cache --env DREAMBOOTH_API_BUCKET_URL=file:///data/modelids \
    "${settings_given[@]}" --env "DREAMBOOTH_API_DATA_FOLDER=/data/container-$number" "${gpu[@]}" "$image"
  wanted+=("$name-$number")
  servers+=("$network.$((10 + number)):5000")
done

run "$name-nginx" 2 --user www-data --publish "$address:$port:2333" --volume "$here/../nginx:/srv/nginx:ro" \
  --env NGINX_FOLDER=/tmp/nginx --env NGINX_DREAMBOOTH_API_LISTEN=0.0.0.0:2333 \
  --env "NGINX_DREAMBOOTH_API_SERVERS=${servers[*]}" \
  --label "enlight.image=$(image_id "$nginx_image")" --label "enlight.nginx=$(cat "$here"/../nginx/{,upstreams/}*.* | sha256sum)" \
  --health-cmd 'bash -c "exec 3<>/dev/tcp/127.0.0.1/2333"' --health-interval 2s --health-retries 30 \
  --entrypoint bash "$nginx_image" /srv/nginx/start-nginx.sh

for container in $(containers); do
  if [[ " ${wanted[*]} " != *" $container "* ]]; then
    remove "$container"
    echo "$container removed"
  fi
done

instances=$(printf '"http://%s",' "${servers[@]}")
echo "for main-api on this machine: MAIN_API_DREAMBOOTH_INSTANCE_URLS='[${instances%,}]'"
