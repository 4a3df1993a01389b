#!/usr/bin/env bash
# Stands in for the commands that env_setup.sh calls, under each one's name: notes every call in $MACHINE/calls, and
# remembers in files below $MACHINE what the real command would have changed.
set -euo pipefail
name=$(basename "$0")
echo "$name $*" >>"$MACHINE/calls"
[ ! -e "$MACHINE/broken/$name" ] || exit 1
case $name in
  id) cat "$MACHINE/uid" ;;
  uname) echo 6.1.0-cloud ;;
  dpkg) echo amd64 ;;
  df) printf 'Avail\n%s\n' "$(cat "$MACHINE/free_kib")" ;;
  mokutil) cat "$MACHINE/secure_boot" ;;
  dpkg-query)
    [ -e "$MACHINE/packages/${*: -1}" ] || exit 1
    printf 'install ok installed'
    ;;
  apt-get)
    case " $* " in
      *' install '*)
        for package in "$@"; do
          case $package in
            -* | install | *::*) ;;
            *) touch "$MACHINE/packages/$(basename "$package" | sed 's/_.*//')" ;;
          esac
        done
        ;;
    esac
    ;;
  curl)
    while [ $# -gt 0 ]; do
      if [ "$1" = --output ] && [ "$2" != /dev/null ]; then echo key >"$2"; fi
      shift
    done
    ;;
  nvidia-smi)
    [ -e "$MACHINE/driver_loaded" ] || exit 9
    echo 'GPU 0: Tesla T4 (UUID: GPU-0)'
    ;;
  nvidia-ctk) touch "$MACHINE/docker_configured" ;;
  systemctl) [ ! -e "$MACHINE/docker_configured" ] || touch "$MACHINE/docker_reloaded" ;;
  docker) if [ -e "$MACHINE/docker_reloaded" ]; then echo '{"nvidia":{},"runc":{}}'; else echo '{"runc":{}}'; fi ;;
esac
