#!/usr/bin/env bash
# Builds the base image; arguments go to `docker build`, such as `--build-arg DEVICE=cpu`. The tag cu113 is the name that
# the image has always had; what is in it is the CUDA of the pinned PyTorch.
set -euo pipefail
cd "$(dirname "$0")"
[ -d wheels ] || make -C .. wheels
exec docker build "$@" . -t enlightdev/enlightaidreambooth:latest -t enlightdev/enlightaidreambooth:cu113
