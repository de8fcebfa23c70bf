# `make help` lists what there is.
VENV := .venv
PYTHON := $(VENV)/bin/python
BIN := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed  ## Make .venv with everything that development needs

$(VENV)/.installed: requirements/dev.txt pyproject.toml hatch_build.py $(wildcard serving/native/*.[ch])
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip sync --quiet --python $(PYTHON) requirements/bootstrap.txt requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(PYTHON) --no-deps --editable .
	@touch $@

.PHONY: requirements
requirements: setup  ## Compile requirements/*.txt from pyproject.toml
	for extra in operator gateway serving dev; do \
	  $(BIN)/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --generate-hashes --universal --python-version 3.11 \
	    --custom-compile-command "make requirements" --extra $$extra -o requirements/$$extra.txt pyproject.toml; \
	done
	echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile --quiet --no-emit-index-url --no-emit-find-links --generate-hashes \
	  --custom-compile-command "make requirements" -o requirements/bootstrap.txt -

.PHONY: test
test: lint type drift models  ## All that needs no cluster: lint, types, layers, unit, contract, charts, gateway, local mode
	hack/cluster tools etcd kube-apiserver kubectl helm versitygw registry >/dev/null
	$(BIN)/pytest tests --numprocesses 2 --dist loadgroup

.PHONY: lint
lint: setup  ## ruff, the layers, the lengths
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: type
type: setup  ## mypy, strict
	$(BIN)/mypy

.PHONY: unit
unit: setup  ## The pure layers, in seconds
	$(BIN)/pytest tests/unit

.PHONY: contract
contract: setup  ## The CRDs against a real API server on loopback
	hack/cluster tools etcd kube-apiserver kubectl >/dev/null
	$(BIN)/pytest tests/contract

.PHONY: charts
charts: setup  ## The Helm charts: lint, render, validate
	hack/cluster tools etcd kube-apiserver kubectl helm >/dev/null
	$(BIN)/pytest tests/charts

.PHONY: generate
generate: setup  ## Write crds/ and docs/reference.md from the models
	$(PYTHON) -m modelyard_operator.api.generate

.PHONY: drift
drift: setup  ## Fail where crds/ or docs/reference.md are not what the models say
	$(PYTHON) -m modelyard_operator.api.generate --check

.PHONY: corpus
corpus: setup  ## Keep what this release leaves in a cluster, for the tests of upgrades to the next ones
	PYTHONPATH=.:hack $(PYTHON) -m tests.unit.inert

.PHONY: tools
tools:  ## Build the pinned Kubernetes, etcd, KubeRay, CoreDNS and Helm, once per version
	hack/cluster tools

.PHONY: images
images: setup  ## Build the operator, gateway and serving images and load them into the cluster
	hack/cluster images

.PHONY: cluster-up
cluster-up:  ## Start the one-node Kubernetes with KubeRay
	hack/cluster up

.PHONY: cluster-down
cluster-down:  ## Stop it and leave nothing behind
	hack/cluster down

.PHONY: models
models: setup  ## Prepare SmolLM2-135M-Instruct, all-MiniLM-L6-v2, EfficientNet-lite0, Whisper tiny.en and a small GPT-2 in the cache
	PYTHONPATH=hack $(PYTHON) -m models

.PHONY: examples
examples: setup  ## Train, measure and package the models of examples/ in the cache (NAMES="digits-dense" selects)
	PYTHONPATH=hack:. $(PYTHON) -m examples $(NAMES)

.PHONY: e2e
e2e: setup models examples  ## The whole system on the one-node cluster (E2E="-k name" selects)
	hack/cluster up
	hack/cluster images
	MODELYARD_E2E_MODELS=$${XDG_CACHE_HOME:-$$HOME/.cache}/modelyard/models \
	  hack/cluster exec -- $(BIN)/pytest e2e --timeout 600 --durations 30 --durations-min 3 $(E2E)

.PHONY: bench-operator
bench-operator: setup  ## How the operator grows: SIZES="10 100 1000 5000" services, REST=30 seconds at rest
	hack/cluster tools etcd kube-apiserver kubectl helm kuberay-operator >/dev/null
	PYTHONPATH=.:hack $(PYTHON) -m bench.operator --sizes $(or $(SIZES),10 100 1000 5000) --rest $(or $(REST),30)

.PHONY: bench-text
bench-text: models  ## SmolLM2's tokens per second against vLLM's on these cores: CLIENTS="1 8 16 32", ROUNDS=3
	$(PYTHON) -m bench.text --model $${XDG_CACHE_HOME:-$$HOME/.cache}/modelyard/models/smollm2 \
	  --clients $(or $(CLIENTS),1 8 16 32) --rounds $(or $(ROUNDS),3)

.PHONY: bench-speech
bench-speech: models  ## Whisper tiny.en on ten clips, beside transformers' pipeline and faster-whisper: ROUNDS=3
	PYTHONPATH=.:hack $(PYTHON) -m bench.speech --rounds $(or $(ROUNDS),3) \
	  --model $${XDG_CACHE_HOME:-$$HOME/.cache}/modelyard/models/whisper-tiny

.PHONY: bench-image
bench-image: models  ## ResNet-50's and EfficientNet-lite0's pictures per second against LitServe's and FastAPI's: CLIENTS="1 8 32", ROUNDS=3
	$(PYTHON) -m bench.image --efficientnet $${XDG_CACHE_HOME:-$$HOME/.cache}/modelyard/models/efficientnet-lite0 \
	  --clients $(or $(CLIENTS),1 8 32) --rounds $(or $(ROUNDS),3)

.PHONY: demo
demo: models  ## Serve SmolLM2 on this machine and ask it a question; KEEP=1 leaves it up, PORT=8000
	PYTHONPATH=hack $(PYTHON) hack/demo.py

.PHONY: local
local: models  ## modelyard run on a real local Ray, through the official client
	$(BIN)/pytest tests/local
