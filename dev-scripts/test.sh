#!/usr/bin/env bash
# Every test, two processes at a time. `--long`: the fault campaigns with their full counts instead.
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# One torch thread per process: two test processes with two threads each only fight over two cores.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
selection=(-m "not long and not gpu and not containers")
if [ "${1:-}" = --long ]; then
  shift
  selection=(-m long --timeout 7200)
fi
exec .venv/bin/python -m pytest "${selection[@]}" -n "${TEST_PROCESSES:-2}" --dist loadfile "$@"
