# `make help` lists what a person can do. Everything runs in environments that `make setup` makes from lock files.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The interpreter that the environments are made with: Python 3.11 or 3.12 with a shared libpython.
PYTHON ?= $(shell for p in python3 python3.11 python3.12; do "$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && { echo "$$p"; exit; }; done; echo python3)
PY := .venv/bin/python
STACK ?= local
ARGS ?=
ROLE ?= serving

export PYTHONUNBUFFERED := 1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-42s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make the Python environments (idempotent)
	@$(PYTHON) tools/setup.py >&2

# --- The sandbox: the same program on this machine, without a cloud account --------------------------------------------
.PHONY: demo down sandbox-preview sandbox-up sandbox-down predict load status logs events
demo: setup ## build the model, deploy the stack here, classify photos
	@$(PY) -m tools.demo

down: setup ## end the demo: no process, port or state stays
	@$(PY) -m sandbox down

sandbox-preview: setup ## STACK=dev|small|prod|local [ARGS=--json]: the plan, without credentials
	@$(PY) -m sandbox preview $(STACK) -- $(ARGS)

sandbox-up: setup ## STACK= [ARGS=]: deploy a stack here
	@$(PY) -m sandbox up $(STACK) -- $(ARGS)

sandbox-down: setup ## STACK=: destroy that stack here
	@$(PY) -m sandbox destroy $(STACK) -- $(ARGS)

predict: setup ## IMAGE=photo.jpg: ask the fleet that runs here
	@$(PY) -m sandbox run -- $(PY) -m client predict $(ARGS) -- $(IMAGE)

load: setup ## [ARGS="--rate 20 --seconds 30"]: constant-rate load on the fleet that runs here
	@$(PY) -m sandbox run -- $(PY) -m client load $(ARGS)

status: setup ## groups, VMs, health and metrics of the fleet that runs here
	@$(PY) -m sandbox run -- $(PY) -m client status $(ARGS)

logs: setup ## VM=name: serial console of a VM here
	@$(PY) -m sandbox logs $(VM) $(ARGS)

events: setup ## what the sandbox's controllers did
	@$(PY) -m sandbox events $(ARGS)

# --- Google Cloud (credentials and backend are yours) -------------------------------------------------------------------
.PHONY: preview up destroy
preview: setup ## STACK=: plan against Google Cloud
	@PATH="$$($(PY) -m tools.pulumi_cli --folder):$$PATH" pulumi preview --stack $(STACK) $(ARGS)

up: setup ## STACK=: deploy to Google Cloud
	@PATH="$$($(PY) -m tools.pulumi_cli --folder):$$PATH" pulumi up --stack $(STACK) $(ARGS)

destroy: setup ## STACK=: remove it from Google Cloud, but for what is protected; lists what stays
	@PATH="$$($(PY) -m tools.pulumi_cli --folder):$$PATH"; \
		pulumi destroy --exclude-protected --stack $(STACK) $(ARGS) && echo "What stays:" && pulumi stack --stack $(STACK)

.PHONY: image bump-image pin-containers doctor
image: setup ## ROLE=serving|builder STACK=: bake a boot image in Google Cloud, name it in the stack file
	@$(PY) -m images bake --role $(ROLE) --stack $(STACK) $(ARGS)

bump-image: setup ## STACK=: name the newest image of the stock image's family in the stack file
	@$(PY) -m images bump --stack $(STACK) $(ARGS)

pin-containers: setup ## STACK=: name the containers by digest in the stack file
	@$(PY) -m images pin --stack $(STACK) $(ARGS)

doctor: setup ## STACK=: credentials, APIs and quotas, before a deployment
	@PATH="$$($(PY) -m tools.pulumi_cli --folder):$$PATH" $(PY) -m client doctor --stack $(STACK) $(ARGS)

# --- Work on the product -------------------------------------------------------------------------------------------------
.PHONY: test test-fast check mutants crash-test lock clean
test: setup ## every test (under 25 minutes on 2 cores)
	@$(PY) -m pytest -m "not servers and not slow" -n 2 -q
	@$(PY) -m tools.pulumi_cli --folder # built here where it is missing, and not beside tests with a time limit
	@$(PY) -m pytest -m "slow or servers" -n 2 --dist loadfile -q --durations=10

test-fast: setup ## tests without servers and model builds (under a minute)
	@$(PY) -m pytest -m "not servers and not slow" -n 2 -q

check: setup ## format, lint, strict types, shell scripts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/shellcheck startup/*.sh images/*.sh examples/*.sh .ci/run

mutants: setup ## break the code on purpose; each fault must be caught by the test it names
	@$(PY) -m tests.mutants.run $(ARGS)

crash-test: setup ## kill the daemon at 50 random points of an `up`; every next `up` must converge
	@$(PY) -m pytest tests/crash --points 50 -q

# --- Measure: on an idle machine; reports go to benchmarks/out and docs/reports ------------------------------------------
.PHONY: bench-model bench-thresholds bench-serving bench-overload bench-fuzz bench-soak
bench-model: setup ## [ARGS=--quick]: build EfficientNet-Lite0, compare its precisions, every goal beside what was measured
	@$(PY) -m benchmarks.model $(ARGS)

bench-thresholds: setup ## what good and broken graphs measure: where the accuracy gates' thresholds come from
	@$(PY) -m benchmarks.model.thresholds --out benchmarks/out/thresholds.json $(ARGS)

bench-serving: setup ## [ARGS=--quick]: one VM against FastAPI, LitServe, native TensorFlow and the bare loop
	@$(PY) -m benchmarks.serving $(ARGS)

bench-overload: setup ## open-loop load at three times what a VM can do
	@$(PY) -m benchmarks.serving.overload $(ARGS)

bench-fuzz: setup ## 100,000 generated requests, good and bad, against a VM
	@$(PY) -m benchmarks.serving.fuzz $(ARGS)

bench-soak: setup ## [ARGS="--minutes 20"]: a VM at 80 % of what it can do; memory and descriptors
	@$(PY) -m benchmarks.serving.soak $(ARGS)

.PHONY: docs
docs: setup ## write the docs' tables of settings and cost again
	@$(PY) -m docs.generate

lock: setup ## resolve the .in files again
	@for name in requirements locks/model locks/serving locks/sandbox-serving locks/dev locks/peers locks/bootstrap locks/go; do \
		echo "$$name"; .cache/bootstrap/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --no-header $$name.in -o $$name.txt; done

clean: ## environments and caches of this folder
	@rm -rf .venv .venv-serving .venv-peers .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
