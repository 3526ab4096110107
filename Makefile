# Both `make serve` and `make test` set up everything they need in .venv, from nothing but Python and make.
PYTHON ?= python3
EXTRA ?= cpu
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 600
# Tests wait as much as they compute: with two workers on two cores a third of the time nobody ran.
TEST_WORKERS ?= 3
# Tests run real servers, and a machine that does something else can make one late: what fails is tried twice more, and
# the summary names it. 0 to see every failure.
TEST_RERUNS ?= 2
# What the image is called; IMAGE_ARGS adds to the build, for example --target=gpu.
IMAGE ?= ortolan:dev
IMAGE_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help serve test lint types contracts check unit perf-analyzer proxies shells kustomize prometheus prometheus-rule settings-page fuzz protos bench bench-grid bench-triton bench-generator overload reload reload-neighbours compiled-cache rolling-restart processes soak utilization overload-neighbours idle-connections interpreter-care batching-delay simulation sbom audit constraints image image-test clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.serve ## Serve the models in model_repo (or those of ORTOLAN_MODEL_REPOSITORY) over REST and gRPC
	@exec $(BIN)/ortolan serve $(if $(ORTOLAN_MODEL_REPOSITORY),,model_repo)

test: check unit ## Install and run everything: lint, types, import contracts, all tests

check: lint types contracts ## Lint, types and import contracts

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

contracts: $(VENV)/.test
	PYTHONPATH=server $(BIN)/lint-imports

unit: $(VENV)/.test perf-analyzer proxies shells kustomize prometheus ## All tests
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --reruns $(TEST_RERUNS) -rRs

perf-analyzer: $(VENV)/.test ## Fetch Triton's load generator; without it the tests that run it are skipped
	@$(BIN)/python tests/perf_analyzer.py

proxies: $(VENV)/.test ## Fetch nginx, HAProxy and Envoy; without them the tests that run them are skipped
	@$(BIN)/python tests/proxies.py

shells: $(VENV)/.test ## Fetch zsh and fish; without them the tests of their completion are skipped
	@$(BIN)/python tests/shells.py

kustomize: $(VENV)/.test ## Fetch kustomize, if there is no kubectl; without it the tests of rendered manifests are skipped
	@$(BIN)/python tests/kustomize.py

prometheus: $(VENV)/.test ## Fetch Prometheus and promtool; without them the tests that run them are skipped
	@$(BIN)/python tests/prometheus.py

settings-page: $(VENV)/.test ## Write docs/settings.md from the settings of the code
	@$(BIN)/python .ci/documentation/settings_page.py

prometheus-rule: ## Write the Prometheus operator's rules from those of k8s/prometheus/rules.yml
	@sed -i '/^  groups:/,$$d' k8s/prometheus/prometheus_rule.yaml
	@sed -n '/^groups:/,$$p' k8s/prometheus/rules.yml | sed 's/^./  &/' >> k8s/prometheus/prometheus_rule.yaml

fuzz: $(VENV)/.test ## Look for faults for FUZZ_SECONDS (600), by fuzzing and property tests (tests/README.md)
	PYTHONPATH=tests $(BIN)/python -m fuzz.long_run $(FUZZ_SECONDS)

protos: $(VENV)/.test ## Compile protos/ into the descriptor set that the server loads
	$(BIN)/python protos/compile.py

bench: $(VENV)/.test ## Measure start-up, memory and latency (benchmarks/README.md)
	$(BIN)/python benchmarks/first_figures.py

bench-grid: $(VENV)/.bench ## The whole grid against its floors, 9 minutes on two cores; GRID_ARGS adds peers (benchmarks/README.md)
	$(BIN)/python benchmarks/grid.py $(GRID_ARGS)

bench-triton: $(VENV)/.bench ## The grid with NVIDIA's Triton server beside ours, 16 minutes on two cores; needs g++ (benchmarks/README.md)
	$(BIN)/python benchmarks/triton_peer/run.py build/triton_peer/models --grid $(GRID_ARGS)

bench-generator: $(VENV)/.test ## Our load generator beside wrk, h2load and perf_analyzer, where they are installed
	$(BIN)/python benchmarks/generator_check.py

overload: $(VENV)/.test ## A minute of ten times the load that a model can take
	$(BIN)/python benchmarks/overload.py

reload: $(VENV)/.test ## 200 requests a second through 20 reloads; memory after 200 loads
	$(BIN)/python benchmarks/reload_under_load.py

reload-neighbours: $(VENV)/.test ## What loading a model costs those that serve
	$(BIN)/python benchmarks/reload_neighbours.py

compiled-cache: $(VENV)/.test ## What the compiled cache saves: loads, memory, starts
	$(BIN)/python benchmarks/compiled_cache.py

rolling-restart: $(VENV)/.test proxies ## Eight restarts at 200 requests a second, behind each proxy: what is lost, some 7 minutes
	$(BIN)/python benchmarks/restarts_behind_proxies.py

processes: $(VENV)/.test ## What a further process of --processes costs: memory, time to start
	$(BIN)/python benchmarks/processes.py

soak: $(VENV)/.test ## SOAK_SECONDS (600) of all that clients do: what is lost or wrong, and what stays in memory
	$(BIN)/python benchmarks/soak.py --seconds $(SOAK_SECONDS)

utilization: $(VENV)/.test ## Whether ortolan_utilization is the load: two models at 20 to 150 % of what they can do, 4 minutes
	$(BIN)/python benchmarks/utilization.py

overload-neighbours: $(VENV)/.test ## What ten times the load of one model costs another
	$(BIN)/python benchmarks/overload_neighbours.py

idle-connections: $(VENV)/.test ## What ten thousand idle connections cost
	$(BIN)/python benchmarks/idle_connections.py

interpreter-care: $(VENV)/.test ## What the allocator's thresholds, gc.freeze and the switch interval are worth
	$(BIN)/python benchmarks/interpreter_care.py

batching-delay: $(VENV)/.test ## What batching costs a lone client, and how exactly a queue delay is kept
	$(BIN)/python benchmarks/batching_delay.py

simulation: $(VENV)/.test ## Batch policies against each other, on measured cost curves
	$(BIN)/python benchmarks/scheduling_simulation.py

sbom: $(VENV)/.audit ## Write the bill of materials (CycloneDX) of what runs with EXTRA (cpu) to build/sbom
	$(BIN)/python .ci/supply_chain/sbom.py $(EXTRA) build/sbom/ortolan-$(EXTRA).cdx.json

audit: $(VENV)/.audit ## Look up known vulnerabilities of everything in constraints.txt; needs the network
	@$(BIN)/python .ci/supply_chain/audit.py

constraints: $(VENV)/.test ## Write constraints.txt from what is installed: names and versions only
	$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable --exclude pip --exclude setuptools \
	  | grep -E '^[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+-]*$$' > constraints.txt

image: ## Build the image IMAGE (ortolan:dev) with buildah, podman or docker, whichever there is
	@.ci/image/build $(IMAGE) $(IMAGE_ARGS)

image-test: $(VENV)/.image ## Build the image and run it hardened, without an engine: needs root, and what apt-get installs (docs/container.md)
	@$(BIN)/python .ci/image/needed_programs.py
	PYTHONPATH=server:tests:.ci/image $(BIN)/python -m pytest -p no:cacheprovider --timeout 3600 .ci/image

clean: ## Remove the virtual environment and every build product
	rm -rf $(VENV) build dist .fuzz .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Ortolan needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.serve: $(VENV)/.python pyproject.toml constraints.txt
	@$(PIP) install -c constraints.txt -e '.[$(EXTRA)]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml constraints.txt
	@$(PIP) install -c constraints.txt -e '.[$(EXTRA),dev]'
	@touch $@ $(VENV)/.serve

$(VENV)/.audit: $(VENV)/.test
	@$(PIP) install -c constraints.txt -e '.[$(EXTRA),dev,audit]'
	@touch $@

$(VENV)/.image: $(VENV)/.test
	@$(PIP) install -c constraints.txt -e '.[$(EXTRA),dev,image]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(PIP) install -c constraints.txt -e '.[$(EXTRA),dev,bench]'
	@touch $@
