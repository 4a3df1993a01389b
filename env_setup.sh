#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine with an NVIDIA GPU ready for GPU containers: the driver, NVIDIA's container toolkit,
# and Docker told of it. Looks first and changes nothing unless everything it needs is there; skips what is there
# already, so that it can be run again (after the reboot that a new driver needs it says whether all is well).
#
#   sudo ./env_setup.sh              do it
#   ./env_setup.sh --dry-run         say what would be done; needs no root
#   ./env_setup.sh --skip-driver     leave the driver alone, where the machine's image or provider brings it
#
#   DRIVER_PACKAGE   nvidia-open, for Turing (T4) and newer; cuda-drivers-580 for older GPUs
#   SYSTEM_ROOT      below which /etc, /sys and the like are looked for; for tests
set -euo pipefail

driver_package=${DRIVER_PACKAGE:-nvidia-open}
system=${SYSTEM_ROOT:-}
needed_disk_kib=$((6 * 1024 * 1024)) # driver and kernel headers take about 3 GB, and as much while they unpack
cuda_repositories=https://developer.download.nvidia.com/compute/cuda/repos
toolkit_repository=https://nvidia.github.io/libnvidia-container
toolkit_key=$system/usr/share/keyrings/nvidia-container-toolkit-keyring.asc
toolkit_list=$system/etc/apt/sources.list.d/nvidia-container-toolkit.list

dry_run=false with_driver=true
for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=true ;;
    --skip-driver) with_driver=false ;;
    -h | --help)
      sed -n '2,11s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "usage: env_setup.sh [--dry-run] [--skip-driver]" >&2
      exit 2
      ;;
  esac
done

say() { echo "env_setup: $*"; }

change() {
  echo "+ $*"
  if ! $dry_run; then "$@"; fi
}

install_packages() {
  # A fresh cloud VM may be updating itself: the lock is waited for.
  change env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y "$@"
}

is_installed() { [ "$(dpkg-query --show --showformat='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }
driver_works() { nvidia-smi -L >/dev/null 2>&1; }
docker_knows_nvidia() { docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q '"nvidia"'; }

# -- what is there, and what is to be done

need_driver=false need_toolkit=false need_runtime=false need_reboot=false
if $with_driver && ! driver_works; then
  if is_installed "$driver_package"; then need_reboot=true; else need_driver=true; fi
fi
is_installed nvidia-container-toolkit || need_toolkit=true
docker_knows_nvidia || need_runtime=true

# -- pre-flight: every problem is named, and none of them after a change

problems=()
# shellcheck source=/dev/null
distribution=$(. "$system/etc/os-release" && echo "${ID:-}${VERSION_ID:-}")
case $distribution in
  debian12 | debian13 | ubuntu22.04 | ubuntu24.04) ;;
  *) problems+=("this is ${distribution:-an unknown system}; Debian 12 and 13, Ubuntu 22.04 and 24.04 are supported") ;;
esac
architecture=$(dpkg --print-architecture)
case $architecture in
  amd64) cuda_architecture=x86_64 ;;
  arm64) cuda_architecture=sbsa ;;
  *) cuda_architecture='' problems+=("NVIDIA has no packages for $architecture") ;;
esac
cuda_repository=$cuda_repositories/${distribution//./}/$cuda_architecture
cuda_keyring=cuda-keyring_1.1-1_all.deb

if ! $dry_run && [ "$(id -u)" != 0 ]; then problems+=("it must be run as root: sudo $0"); fi
if ! grep -qs 0x10de "$system"/sys/bus/pci/devices/*/vendor; then
  problems+=("this machine has no NVIDIA GPU; on a CPU the containers need nothing of this")
fi
command -v docker >/dev/null || problems+=("Docker is not here: apt-get install docker.io, or docs.docker.com/engine/install")
if command -v curl >/dev/null; then
  reach() { curl --silent --fail --location --head --max-time 20 --output /dev/null "$1" || problems+=("$1 cannot be reached"); }
  if $need_driver && [ -n "$cuda_architecture" ]; then reach "$cuda_repository/$cuda_keyring"; fi
  if $need_toolkit; then reach "$toolkit_repository/gpgkey"; fi
elif $need_driver || $need_toolkit; then
  problems+=("curl is not here: apt-get install curl ca-certificates")
fi
if $need_driver; then
  free_kib=$(df --output=avail -k "$system/usr" | tail -n 1)
  if [ "$free_kib" -lt $needed_disk_kib ]; then
    problems+=("$((free_kib / 1024)) MiB are free, the driver needs $((needed_disk_kib / 1024))")
  fi
  if mokutil --sb-state 2>/dev/null | grep -q enabled; then
    problems+=("Secure Boot is on: the driver's module would not be loaded; turn it off, or use --skip-driver")
  fi
fi
if [ ${#problems[@]} -gt 0 ]; then
  say "nothing was changed:" >&2
  printf '  - %s\n' "${problems[@]}" >&2
  exit 1
fi

# -- changes

if $need_driver; then
  say "installing the driver ($driver_package)"
  if ! is_installed cuda-keyring; then
    download=$(mktemp -d)
    trap 'rm -rf "$download"' EXIT
    chmod 755 "$download" # apt reads it as a user of its own
    change curl --silent --show-error --fail --location --output "$download/$cuda_keyring" "$cuda_repository/$cuda_keyring"
    install_packages "$download/$cuda_keyring"
  fi
  change apt-get update
  install_packages "linux-headers-$(uname -r)" "$driver_package"
  need_reboot=true
elif $with_driver && ! $need_reboot; then
  say "the driver works: $(nvidia-smi -L | head -n 1)"
fi

if $need_toolkit; then
  say "installing NVIDIA's container toolkit"
  # The key under another name first: half a key must not be taken for the whole one by the next run.
  change curl --silent --show-error --fail --location --output "$toolkit_key.new" "$toolkit_repository/gpgkey"
  change mv "$toolkit_key.new" "$toolkit_key"
  line="deb [signed-by=${toolkit_key#"$system"}] $toolkit_repository/stable/deb/$architecture /"
  echo "+ $toolkit_list: $line"
  if ! $dry_run; then echo "$line" >"$toolkit_list"; fi
  change apt-get update
  install_packages nvidia-container-toolkit
else
  say "the container toolkit is there"
fi

if $need_runtime; then
  say "telling Docker of the GPU"
  change nvidia-ctk runtime configure --runtime=docker
  change systemctl reload docker # its runtimes are read again, and running containers stay
  if ! $dry_run && ! docker_knows_nvidia; then
    say "Docker did not take the nvidia runtime: sudo systemctl restart docker, which stops running containers" >&2
    exit 1
  fi
else
  say "Docker knows the GPU"
fi

if $dry_run; then
  say "nothing was changed"
elif $need_reboot; then
  say "the driver is loaded by the next start: sudo reboot, then run this again"
else
  say "done; to see it: docker run --rm --gpus all debian:bookworm-slim nvidia-smi -L"
fi
