#!/usr/bin/env bash
# Measures on this machine's cores, each thing against its peer in turns (about twenty minutes on 2 cores; --quick: about
# two). Tables go to the terminal, results and plots to bench-output/. With a GPU see docs/performance.md.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=() repeats=5
if [ "${1:-}" = --quick ]; then quick=(--quick) repeats=1; fi
mkdir -p bench-output
echo "== PNG encoding"
.venv/bin/python dreambooth-api/benchmarks/encode_png.py
echo "== bgrem against rembg.remove"
.venv/bin/python bgrem/benchmarks/against_rembg.py "${quick[@]}" --json bench-output/against-rembg.json
echo "== realesrgan against the plain spandrel call"
.venv/bin/python realesrgan/benchmarks/on_two_cores.py --repeats "$repeats" --json bench-output/realesrgan-on-cpu.json
echo "== bgrem against rembg s, under load"
.venv/bin/python bgrem/benchmarks/load_against_rembg_s.py "${quick[@]}" \
  --json bench-output/load-against-rembg-s.json --plot bench-output/memory-under-load.png
.venv/bin/python dev-scripts/bench_plot.py bench-output
