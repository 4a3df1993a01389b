#!/usr/bin/env bash
# Makes .venv with every distribution of the project (editable) and the pinned development tools.
# Needs Debian/Ubuntu with Python 3.11 and nothing else; no root. With root it also installs the Debian packages
# that some tests use. Run again it does nothing unless a pin changed.
set -euo pipefail
cd "$(dirname "$0")/.."

distributions=(servicekit torchkit jobkit dreambooth-api bgrem upsampler realesrgan main-api dashboard models)
debian_packages=(fonts-noto-color-emoji redis-server nginx chromium prometheus)

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))'; then
      python=$candidate
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "setup: Python 3.11 or later is needed (apt-get install python3.11, or set PYTHON=/path/to/python3.11)" >&2
  exit 1
fi

missing_packages=()
for package in "${debian_packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing_packages+=("$package")
done
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  missing_packages+=("$(basename "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")")
fi
if [ ${#missing_packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing_packages[*]}"
    new_services=()
    for service in redis-server nginx prometheus prometheus-node-exporter; do
      command -v "$service" >/dev/null || new_services+=("$service")
    done
    apt-get update -qq >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing_packages[@]}" >/dev/null ||
      echo "setup: could not install ${missing_packages[*]}; tests that need them are skipped by name" >&2
    # Debian starts servers that it installs, on ports that `make up` needs; tests start their own.
    for service in "${new_services[@]}"; do
      service "$service" stop >/dev/null 2>&1 || true
      update-rc.d "$service" disable >/dev/null 2>&1 || true
    done
  else
    echo "setup: not root, so these Debian packages stay missing: ${missing_packages[*]}" \
      "(tests that need them are skipped by name)" >&2
  fi
fi

wanted=$( { "$python" --version; cat dev-scripts/requirements-dev.txt dev-scripts/setup.sh; cat "${distributions[@]/%//pyproject.toml}"; } |
  sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ "$(cat .venv/enlight-setup 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

echo "setup: making .venv (the first time this downloads about 4 GB, mostly PyTorch)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
rm -f .venv/enlight-setup
arguments=()
for distribution in "${distributions[@]}"; do arguments+=(-e "$distribution"); done
arguments+=(-e "dreambooth-api[runtime]") # its HTTP part alone is what main-api takes
arguments+=(-e "servicekit[tracing]")     # the images have it, too
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${arguments[@]}" -r dev-scripts/requirements-dev.txt
echo "$wanted" >.venv/enlight-setup
echo "setup: done"
