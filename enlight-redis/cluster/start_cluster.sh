#!/usr/bin/env bash
# A cluster of six nodes on this machine, three primaries with a replica each: `start_cluster.sh` starts it (again),
# `start_cluster.sh stop` ends it. To try out a cluster, and for tests: six nodes of one machine are no safer than one.
#
#   CLUSTER_FOLDER  nodes' files, logs, process ids and the password (data/redis-cluster)
#   CLUSTER_PORTS   six ports, space-separated (7000 to 7005); a node also listens on its port for nodes
#   CLUSTER_BUS_PORTS  six ports among the nodes (each node's port + 10000)
#   REDIS_SERVER    path of the server, where it is not in the PATH
#
# main-api takes it as MAIN_API_CACHE_URLS='["redis://:PASSWORD@127.0.0.1:7000", "redis://:PASSWORD@127.0.0.1:7001"]'.
set -euo pipefail
# shellcheck source=/dev/null
. "$(dirname "$0")/../common.sh"

folder=${CLUSTER_FOLDER:-$redis_home/../data/redis-cluster}
read -ra ports <<<"${CLUSTER_PORTS:-7000 7001 7002 7003 7004 7005}"
read -ra bus_ports <<<"${CLUSTER_BUS_PORTS:-}"
if [ ${#ports[@]} != 6 ]; then
  echo "CLUSTER_PORTS must list six ports" >&2
  exit 2
fi
if [ ${#bus_ports[@]} = 0 ]; then
  for port in "${ports[@]}"; do bus_ports+=($((port + 10000))); done
fi

stop_nodes() {
  local file
  for file in "$folder"/*/pid; do # all are asked first: a primary would wait for its replica
    if [ -e "$file" ]; then kill -TERM "$(cat "$file")" 2>/dev/null || true; fi
  done
  for file in "$folder"/*/pid; do
    [ -e "$file" ] || continue
    for _ in $(seq 100); do
      kill -0 "$(cat "$file")" 2>/dev/null || break
      sleep 0.1
    done
    rm -f "$file"
  done
}

# ask PORT WORD...: one command to one node over the protocol's plain lines; prints the first line of the answer.
# For an answer of a given length that is the line after the length.
ask() {
  local port=$1 line
  shift
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'AUTH %s\r\n%s\r\n' "$password" "$*" >&3
  read -r -t 5 line <&3 && read -r -t 5 line <&3 || return 1
  case $line in \$*) read -r -t 5 line <&3 || return 1 ;; esac
  exec 3<&-
  echo "${line%$'\r'}"
}

# must_ok PORT WORD...: a command that has to be answered by OK.
must_ok() {
  local answer
  answer=$(ask "$@")
  if [ "$answer" != +OK ]; then
    echo "node ${*}: $answer" >&2
    exit 1
  fi
}

# until_true WHAT COMMAND...: tries the command for 30 seconds.
until_true() {
  local what=$1
  shift
  for _ in $(seq 300); do
    if "$@" 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "$what: not within 30 s; see $folder/*/log" >&2
  exit 1
}

answers() { [ "$(ask "$1" PING)" = +PONG ]; }
knows() { [[ $(ask_all "$1" CLUSTER NODES) == *"$2"* ]]; }
is_whole() { [[ $(ask_all "$1" CLUSTER INFO) == *cluster_state:ok*cluster_known_nodes:6* ]]; }

# ask_all PORT WORD...: as ask, but every line of the answer.
ask_all() {
  local port=$1 line length
  shift
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'AUTH %s\r\n%s\r\n' "$password" "$*" >&3
  read -r -t 5 line <&3 && read -r -t 5 length <&3 || return 1
  length=${length%$'\r'}
  head -c "${length#\$}" <&3
  exec 3<&-
}

# cluster-node-timeout: a primary is given up after so long a silence, and its replica then waits half a second to a whole
# one before it asks for votes: three seconds for both, also where nodes are busy. Less, and a short pause of a node costs a
# fail-over for nothing.
start_node() {
  local number=$1 port=${ports[$1]} node=$folder/$1
  mkdir -p "$node"
  (
    umask 077
    {
      echo "include \"$redis_home/single_redis/config/redis.conf\""
      printf '%s\n' 'bind 127.0.0.1' "port $port" "cluster-port ${bus_ports[number]}" "dir \"$node\"" \
        "requirepass $password" "masterauth $password" 'cluster-enabled yes' 'cluster-config-file nodes.conf' \
        'cluster-node-timeout 1000' 'cluster-require-full-coverage no' 'cluster-replica-validity-factor 0' \
        'shutdown-timeout 0' 'appendonly no' "maxmemory ${REDIS_MAXMEMORY:-128mb}"
    } >"$node/server.conf"
  )
  setsid "${server[@]}" "$node/server.conf" >>"$node/log" 2>&1 </dev/null &
  echo $! >"$node/pid"
}

case ${1:-start} in
  stop)
    stop_nodes
    exit 0
    ;;
  start) ;;
  *)
    echo "usage: start_cluster.sh [start|stop]" >&2
    exit 2
    ;;
esac

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
server=()
find_server
password=$(password_in "$folder/password")
made_before=$([ -e "$folder/0/nodes.conf" ] && echo yes || echo no)
stop_nodes
for number in 0 1 2 3 4 5; do start_node "$number"; done
for port in "${ports[@]}"; do until_true "node $port" answers "$port"; done

if [ "$made_before" = no ]; then
  last_slots=(5460 10922 16383) first_slot=0
  for number in 0 1 2; do
    must_ok "${ports[number]}" CLUSTER ADDSLOTSRANGE "$first_slot" "${last_slots[number]}"
    must_ok "${ports[number]}" CLUSTER SET-CONFIG-EPOCH $((number + 1))
    first_slot=$((last_slots[number] + 1))
  done
  for number in 1 2 3 4 5; do
    must_ok "${ports[0]}" CLUSTER MEET 127.0.0.1 "${ports[number]}" "${bus_ports[number]}"
  done
  for number in 3 4 5; do
    primary=$(ask "${ports[number - 3]}" CLUSTER MYID)
    until_true "node ${ports[number]} meets its primary" knows "${ports[number]}" "$primary"
    must_ok "${ports[number]}" CLUSTER REPLICATE "$primary"
  done
fi
for port in "${ports[@]}"; do until_true "node $port sees the whole cluster" is_whole "$port"; done
echo "the cluster runs: ports ${ports[*]}; the password is in $folder/password"
