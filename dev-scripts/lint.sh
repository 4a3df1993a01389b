#!/usr/bin/env bash
# ruff (style, likely bugs, format), mypy --strict, shellcheck, hadolint.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy servicekit/src torchkit/src jobkit/src dreambooth-api/src bgrem/src upsampler/src realesrgan/src main-api/src dashboard/src models/src demo dreambooth-script/*.py dev-scripts
.venv/bin/mypy servicekit/tests torchkit/tests jobkit/tests dreambooth-api/tests bgrem/tests upsampler/tests realesrgan/tests dashboard/tests models/tests dreambooth-manage/tests dreambooth-script/tests k8s/tests monitoring/tests e2e
# By itself: it has a conftest.py, as dreambooth-api's tests have, and mypy tells folders with a dash not apart.
.venv/bin/mypy main-api/tests
.venv/bin/mypy fidelity # by itself: it has a run.py, as demo has
git ls-files -z '*.sh' .ci/run dev-scripts/fetch-weights | xargs -0 .venv/bin/shellcheck
git ls-files -z '*Dockerfile' | xargs -0 .venv/bin/hadolint
