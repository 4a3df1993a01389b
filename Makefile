# Thin: every target is a script that can be read and run by itself.
.PHONY: help setup demo fidelity up down test test-long lint format docs bench clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup:           ## a virtual environment with everything pinned; skipped when nothing changed
	@dev-scripts/setup.sh

demo: setup      ## the main job on real pictures, in under 5 minutes; result in demo-output/
	@.venv/bin/python demo/run.py

fidelity: setup  ## does training give this subject in that scene? 20 subjects, under 20 minutes; fidelity-output/
	@.venv/bin/python fidelity/run.py

up: setup        ## start the suite on loopback, without keys, with the pocket base model
	@dev-scripts/up.sh

down:            ## stop what `make up` started
	@dev-scripts/down.sh

test: setup lint ## every test
	@dev-scripts/test.sh

test-long: setup ## the fault campaigns with their full counts (about a quarter of an hour)
	@dev-scripts/test.sh --long

lint: setup      ## ruff, mypy --strict, shellcheck
	@dev-scripts/lint.sh

format: setup    ## let ruff format and fix
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

docs: setup      ## rewrite docs/settings.md, docs/api.md and .env.example from the code
	@.venv/bin/python dev-scripts/generated_docs.py

bench: setup     ## measure; see docs/performance.md
	@.venv/bin/python dreambooth-api/benchmarks/encode_png.py

clean:           ## remove what the targets made, the virtual environment included
	rm -rf .venv demo-output fidelity-output data run .mypy_cache .ruff_cache .pytest_cache .hypothesis
