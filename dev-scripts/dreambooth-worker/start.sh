#!/usr/bin/env bash
# Runs a GPU worker in the foreground on this machine: it takes trainings from the queue. Settings: docs/settings.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m enlight.dreambooth_api.worker
