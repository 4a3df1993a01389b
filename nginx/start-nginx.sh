#!/usr/bin/env bash
# nginx before the services, in the foreground: `start-nginx.sh`. `start-nginx.sh check` only looks at the configuration.
#
#   NGINX_DREAMBOOTH_API_SERVERS  replicas as host:port, space-separated; a service without any is left out
#   NGINX_MAIN_API_SERVERS, NGINX_BGREM_SERVERS, NGINX_UPSAMPLER_SERVERS, NGINX_REALESRGAN_SERVERS, NGINX_DASHBOARD_SERVERS
#                                 likewise
#   NGINX_DREAMBOOTH_API_LISTEN   where they are reached (127.0.0.1:2333); the others' names likewise
#                                 (main-api 127.0.0.1:8080, dashboard :8081, bgrem :2334, upsampler :2335,
#                                 realesrgan :2336)
#   NGINX_TLS_CERTIFICATE, NGINX_TLS_KEY  files; given, main-api's and dashboard's doors speak TLS only
#   NGINX_REQUESTS_PER_SECOND     of one address at these two doors (20); 0: no limit
#   NGINX_REQUESTS_BURST          how many more may come at once (40; ten times as many at dashboard's)
#   NGINX_CONNECT_TIMEOUT_S       limit of reaching a replica (2)
#   NGINX_READ_TIMEOUT_S          limit of a replica's silence (720)
#   NGINX_TRAINING_TIMEOUT_S      the same where a client waits for its training (14400)
#   NGINX_FOLDER                  its files (data/nginx)
#   NGINX_ACCESS_LOG              /dev/stdout
#   NGINX_USER                    whose processes do the work, where root starts it (www-data)
#   NGINX_PROGRAM                 path of nginx, where it is not in the PATH
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
  echo "nginx: $1" >&2
  exit 2
}

# setting NAME DEFAULT PATTERN: prints its value, if all of it fits the pattern. What does not would be configuration.
setting() {
  local value=${!1:-$2}
  [[ $value =~ ^($3)$ ]] || fail "$1 is not valid: $value"
  echo "$value"
}

case ${1:-start} in
  start) only_check=() ;;
  check) only_check=(-t) ;;
  *) fail "usage: start-nginx.sh [check]" ;;
esac
program=${NGINX_PROGRAM:-$(PATH=$PATH:/usr/sbin command -v nginx)} || fail "not installed: apt-get install nginx"

number='[0-9]{1,6}'
path='/[A-Za-z0-9._/@+-]+'
address='(\[[0-9a-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}'
mkdir -p "${NGINX_FOLDER:-$here/../data/nginx}"
folder=$(cd "${NGINX_FOLDER:-$here/../data/nginx}" && pwd)

declare -A values=([here]=$here [folder]=$folder [tls]='' [rate_limit]='' [page_rate_limit]='' [user]='')
values[access_log]=$(setting NGINX_ACCESS_LOG /dev/stdout "$path")
values[connect_timeout_s]=$(setting NGINX_CONNECT_TIMEOUT_S 2 "$number")
values[read_timeout_s]=$(setting NGINX_READ_TIMEOUT_S 720 "$number")
values[training_timeout_s]=$(setting NGINX_TRAINING_TIMEOUT_S 14400 "$number")
requests_per_second=$(setting NGINX_REQUESTS_PER_SECOND 20 "$number")
requests_burst=$(setting NGINX_REQUESTS_BURST 40 "$number")
if [ "$requests_per_second" -gt 0 ]; then
  values[rate_limit]="limit_req zone=clients burst=$requests_burst nodelay;"
  # A page asks for its pictures all at once.
  values[page_rate_limit]="limit_req zone=clients burst=$((10 * requests_burst)) nodelay;"
fi
values[requests_per_second]=$((requests_per_second > 0 ? requests_per_second : 1))
if [ -n "${NGINX_TLS_CERTIFICATE:-}${NGINX_TLS_KEY:-}" ]; then
  certificate=$(setting NGINX_TLS_CERTIFICATE '' "$path")
  key=$(setting NGINX_TLS_KEY '' "$path")
  values[tls]="ssl_certificate \"$certificate\"; ssl_certificate_key \"$key\"; ssl_protocols TLSv1.2 TLSv1.3;"
fi
if [ "$(id -u)" = 0 ]; then values[user]="user $(setting NGINX_USER www-data '[a-z_][a-z0-9_-]*');"; fi

# filled FILE: prints it with every {name} of `values` filled in.
filled() {
  local text name
  text=$(<"$1")
  for name in "${!values[@]}"; do text=${text//"{$name}"/"${values[$name]}"}; done
  printf '%s\n' "$text"
}

rm -rf "$folder/upstreams"
mkdir -p "$folder/upstreams"
services=0
while read -r service default_listen; do
  name=NGINX_${service^^}
  name=${name//-/_}
  servers=${name}_SERVERS
  [ -n "${!servers:-}" ] || continue
  setting "$servers" '' "$address( +$address)*" >/dev/null
  values[servers]=''
  for server in ${!servers}; do values[servers]+="server $server max_fails=0; "; done
  values[listen]=$(setting "${name}_LISTEN" "$default_listen" "$address")
  if [[ $service =~ ^(main-api|dashboard)$ ]] && [ -n "${values[tls]}" ]; then values[listen]+=' ssl'; fi
  filled "$here/upstreams/$service.conf" >"$folder/upstreams/$service.conf"
  services=$((services + 1))
done <<'SERVICES'
dreambooth-api 127.0.0.1:2333
main-api 127.0.0.1:8080
dashboard 127.0.0.1:8081
bgrem 127.0.0.1:2334
upsampler 127.0.0.1:2335
realesrgan 127.0.0.1:2336
SERVICES
[ $services -gt 0 ] || fail "no service has replicas: set NGINX_DREAMBOOTH_API_SERVERS or another one"

values[includes]="include \"$folder/upstreams/*.conf\";"
filled "$here/nginx.conf" >"$folder/nginx.conf"
exec "$program" "${only_check[@]}" -p "$folder" -c "$folder/nginx.conf" -e stderr
