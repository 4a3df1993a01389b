#!/usr/bin/env bash
# What each service's image needs from outside its own folder, since `docker build .` sees no other: the shared
# distributions as wheels and the tested versions of everything (wheels/), and the weights that are here (weights/).
set -euo pipefail
cd "$(dirname "$0")/.."

tested=$(mktemp -d)
trap 'rm -rf "$tested"' EXIT
.venv/bin/python -m pip freeze --disable-pip-version-check --exclude-editable >"$tested/constraints.txt"
# By itself what PyTorch needs: its layer in the images stays when the version of something else changes.
.venv/bin/python dev-scripts/pins_of.py torch torchvision >"$tested/torch-constraints.txt"
chmod 644 "$tested"/*

# prepare SERVICE DISTRIBUTION...: made anew each time, so that nothing old stays in the image
prepare() {
  local service=$1
  shift
  rm -rf "$service/wheels" "$service/weights"
  mkdir -p "$service/wheels" "$service/weights"
  cp "$tested"/* "$service/wheels/"
  .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$service/wheels" "${@/#/./}"
}
prepare main-api servicekit jobkit dreambooth-api
prepare dashboard servicekit
prepare dreambooth-api servicekit torchkit jobkit
prepare bgrem servicekit
prepare upsampler servicekit torchkit
prepare realesrgan servicekit torchkit
prepare dreambooth-base servicekit torchkit jobkit dreambooth-api
cp -R models/pocket dreambooth-api/weights/
cp -R models/pocket dreambooth-base/weights/
cp -R models/pocket main-api/weights/ # the gateway reads its presets
cp models/bgrem/*.onnx bgrem/weights/
cp models/realesrgan/*.safetensors realesrgan/weights/
echo "wheels and weights are in the services' folders; build an image with: cd <service> && docker build . -t <service>"
