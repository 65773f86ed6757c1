# `make help` lists every command.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PORT ?= 3000
# Only what was asked for may change params.yaml.
ASKED_SOURCE := $(filter command environment,$(origin SOURCE))
ASKED_DATA := $(or $(ASKED_SOURCE),$(filter command environment,$(origin DATA)))
SOURCE ?= simulated
DATA ?= $(if $(filter simulated,$(SOURCE)),data/raw/simulated)
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export BENTOML_DO_NOT_TRACK := True
# uv brings certificates of its own; a company's proxy needs the machine's.
export UV_SYSTEM_CERTS := true
export PYTHONUNBUFFERED := 1

.PHONY: help setup run pipeline deploy serve airflow test lint format requirements bench bench-serving \
	clean peers-setup peers-requirements bench-peers tune-peers cut-named cut-peers

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | column -t -s $$'\t'

setup: $(VENV)/.ready ## make the environment in .venv

$(VENV)/.ready: requirements.txt pyproject.toml
	@echo "== environment: Python packages into $(VENV)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@grep -A100 '^uv==' requirements.txt | awk 'NR>1 && /^[a-z]/{exit} {print}' > $(VENV)/uv.txt
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@# Compiled once here: where PYTHONDONTWRITEBYTECODE is set, every process would do it again.
	@$(VENV)/bin/uv pip sync --compile-bytecode --require-hashes --python $(VENV)/bin/python requirements.txt \
		|| $(VENV)/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.txt
	@$(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --python $(VENV)/bin/python -e .
	@touch $@

run: setup ## environment, data, pipeline, feature store and the service with its page (SOURCE=, DATA=, PORT=)
	@# Before the work, not after it.
	@python -m serving.welcome --port $(PORT) --look
	@$(MAKE) --no-print-directory pipeline
	@python -m serving.welcome --port $(PORT)

pipeline: setup ## train on the source of params.yaml, or on SOURCE=simulated|30music|files DATA=path; deploys the bundle
	@test -n "$(DATA)" || { echo "Say where the data is: make $(or $(MAKECMDGOALS),pipeline) SOURCE=$(SOURCE) DATA=path"; exit 2; }
	@# Within the shell's quotes YAML's, by which a path stays a text: 2024, [old] music, my: music.
	@$(if $(ASKED_DATA),python -m training.set_params $(if $(ASKED_SOURCE),source.name="$(SOURCE)") source.path="'$(subst ','',$(DATA))'")
	@python -c 'from features.params import load_params; source = load_params().source; \
		print(f"== pipeline: source {source.name} at {source.path}")'
	@# A full disk leaves DVC's own lock empty, and then it refuses to run.
	@find .dvc/tmp -name rwlock -empty -delete 2> /dev/null || true
	@dvc repro bundle_serving
	@$(MAKE) --no-print-directory deploy

deploy: setup ## make data/bundles/serving the served bundle and fill the online store
	@echo "== deploy: feature store and bundle"
	@python -m serving.deploy

serve: setup ## serve the deployed bundle (PORT=)
	@bentoml serve --port $(PORT)

airflow: setup ## a real Airflow (standalone, SQLite) with the project's DAGs; prints address and login
	@python dags/standalone.py

# The tests of a file stay together: they share servers. What takes longest begins (tests/conftest.py).
test: setup ## the whole test suite, two files at a time (PYTEST=... adds arguments)
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: setup ## ruff, mypy and import-linter
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports

format: setup ## mend style where ruff can
	@ruff check --fix .
	@ruff format .

bench: setup ## measure: factors, batch, and the simulator's truth; writes benchmarks/results
	@python -m benchmarks.factors
	@python -m benchmarks.batch
	@python -m benchmarks.simulated_truth

PEERS := .venv-peers
# The moment that ends the validation cut: the end of the labels of 30Music's whole span.
VALIDATION := 2014-11-27T10:29:45Z
CUT_NAME = $(firstword $(subst T, ,$(CUT)))
CUT_FOLDER = data/peers/$(CUT_NAME)
IN_CUT = SEGUE_DATA=$(CUT_FOLDER)/segue/data python -m

peers-setup: $(PEERS)/.ready ## make the peers' environment in .venv-peers

# PyTorch is not in the compiled file: `torch` as such would bring CUDA (docs/peers.md).
$(PEERS)/.ready: benchmarks/peers/requirements.txt
	@echo "== environment: the peers' packages into $(PEERS)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torch==2.13.0
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r benchmarks/peers/requirements.txt
	@$(PEERS)/bin/python -m pip check
	@touch $@

bench-peers: cut-peers ## other methods beside Segue: DATA=path CUT=moment (ISO 8601, UTC) or CUT=end
	@$(PEERS)/bin/python -m benchmarks.peers.run --cut $(CUT_FOLDER)
	@$(IN_CUT) benchmarks.peers.score --cut $(CUT_FOLDER) --name $(CUT_NAME)

tune-peers: CUT := $(VALIDATION)
tune-peers: cut-peers ## tune the peers on the validation cut, from where tuned.json stops: DATA=path
	@$(PEERS)/bin/python -m benchmarks.peers.tune --cut $(CUT_FOLDER)
	@$(PEERS)/bin/python -m benchmarks.peers.run --cut $(CUT_FOLDER)
	@$(PEERS)/bin/python -m benchmarks.peers.tune --cut $(CUT_FOLDER) --again \
		--methods "RRF of three" two-stage

cut-named:
	@# What SOURCE means by default is no listening data.
	@test -n "$(filter command environment,$(origin DATA))" -a -n "$(DATA)" -a -n "$(CUT)" || { echo "Say which data and cut: make $(or $(MAKECMDGOALS),bench-peers) DATA=path CUT=$(VALIDATION)"; exit 2; }
	@test -e "$(DATA)" || { echo "There is nothing at $(DATA); say where the listening data are: DATA=path"; exit 2; }
	@test "$(CUT)" = end || date -d "$(CUT)" > /dev/null || { echo "CUT=$(CUT) is no moment; give one like $(VALIDATION), or end"; exit 2; }

# What takes long begins only once it is known what is asked.
cut-peers: cut-named setup peers-setup
	@echo "== Segue on the cut $(CUT)"
	@python -m benchmarks.peers.segue --data "$(DATA)" --cut $(CUT) --out $(CUT_FOLDER)/segue
	@$(IN_CUT) benchmarks.peers.export --params $(CUT_FOLDER)/segue/params.yaml --out $(CUT_FOLDER)

peers-requirements: setup ## compile the peers' requirements.txt
	@uv pip compile benchmarks/peers/requirements.in --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --python-version 3.11 --no-emit-package torch \
		$(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --output-file benchmarks/peers/requirements.txt

bench-serving: setup ## measure the service over 10 thousand, 1 and 10 million songs (about 20 GB in WORK=; SECONDS_BUSY=600 of load)
	@python -m benchmarks.serving --throughput $(or $(SECONDS_BUSY),600) $(if $(WORK),--work $(WORK))

requirements: setup ## compile requirements.txt from pyproject.toml
	@uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-annotate \
		--no-header --python-version 3.11 --output-file requirements.txt

clean: ## remove what the pipeline made (the environment and received events stay)
	rm -rf airflow_home dvc_plots
	test ! -d data || find data -mindepth 1 -maxdepth 1 ! -name events -exec rm -rf {} +
