PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 5000
WORKERS ?= 2
ARGS ?=

LOCK := requirements.lock
STAMP := .venv/.installed
UNFINISHED := .venv/.unfinished
DOCS_STAMP := .venv/.docs
BIN := .venv/bin
DATABASE := mlruns/mlflow.db
EXPERIMENT := rwkv_sweep
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --progress-bar off --no-compile --use-pep517

# Bytecode is written for what the set-up's last step imports (all 19 000 files would take a minute more), and the CPU's
# WKV loop is compiled for the usual head sizes.
unexport PYTHONDONTWRITEBYTECODE
WARM_UP := import altair, datasets, gensim.models, mlflow, pytest, scipy.stats, sklearn.metrics, torch, transformers, vl_convert

.DEFAULT_GOAL := help
.PHONY: help setup sweep test test-browser test-gpu test-portable test-mteb test-optuna test-sentence-transformers mutants test-faults test-faults-all test-ray server bench bench-growth bench-sweep bench-sweep-gpu bench-gpu lint format ui wheel lock docs docs-lock clean

help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the pinned packages (PYTHON=python3.12 picks another interpreter)

# The stamp comes last. `.unfinished` marks packages being installed, so that after an interruption the next set-up starts
# from an empty .venv; a .venv made by other hands is never emptied.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "PYTHON=$(PYTHON) must be Python 3.10 to 3.13, and is: $$($(PYTHON) --version 2>&1 | tail -n 1)" >&2; exit 1; }
	@if [ -e $(UNFINISHED) ]; then rm -rf .venv; fi
	@echo "set-up 1/3: .venv with $$($(PYTHON) --version)"
	@if [ ! -e .venv ] || [ -e $(STAMP) ]; then mkdir -p .venv && touch $(UNFINISHED) && rm -f $(STAMP); fi
	@$(PYTHON) -m venv .venv
	@echo "set-up 2/3: the packages of $(LOCK) (minutes, the first time)"
	@$(PIP_INSTALL) -r $(LOCK)
	@rm -f $(UNFINISHED)
	@echo "set-up 3/3: rwkv_sweep itself, editable, and a first import of everything"
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/python -c '$(WARM_UP)'
	@$(BIN)/rwkv-sweep warm
	@touch $@

sweep: setup ## Run the headline sweep: six layers, two precisions
	$(BIN)/python -m rwkv_sweep -m layer=1,3,5,7,9,11 precision=fp16,int8 $(ARGS)

# Whole files go to a process, as what is costly to set up is shared within a file, in the order of tests/conftest.py; one
# thread each, as they share the cores.
# The browser's tests have a target of their own, which leaves Selenium in .venv.
test: setup ## Run the tests (ARGS="-k pooling" narrows them; WORKERS=2 processes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore=tests/browser $(ARGS)

# First without what this processor has beyond the oldest of its kind, all that is timed taking equally long; then without
# AVX-512 and AMX, all that is timed taking a random time.
OLDEST := ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2
COMMON := ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
ifeq ($(shell uname -m),x86_64)
OLDEST += ONEDNN_MAX_CPU_ISA=SSE41 NUMBA_CPU_NAME=generic
COMMON += ONEDNN_MAX_CPU_ISA=AVX2 NUMBA_CPU_NAME=haswell
endif

test-portable: setup ## Run the tests as on two lesser processors, with made-up times (twice as long as make test)
	$(OLDEST) $(BIN)/rwkv-sweep warm
	$(OLDEST) $(MAKE) test ARGS='--jitter-clock 0 $(ARGS)'
	$(COMMON) $(BIN)/rwkv-sweep warm
	$(COMMON) $(MAKE) test ARGS='--jitter-clock 1 $(ARGS)'

test-browser: setup ## Run the tests of the report and of MLflow's UI in a headless Chromium (needs chromium and chromedriver)
	@$(PIP_INSTALL) selenium==4.51.0
	$(BIN)/python -m pytest -q tests/browser $(ARGS)

bench: setup ## Measure one forward on the CPU beside its lower bound and other programs
	$(BIN)/python -m benchmarks.forward_cpu $(ARGS)
	$(BIN)/python -m benchmarks.forward_cpu --random 512 12

bench-growth: setup ## Measure time and memory against pairs, length and layers (20 minutes)
	$(BIN)/python -m benchmarks.growth --figure multirun/growth $(ARGS)

bench-sweep: setup ## Measure a sweep of twelve jobs against twelve processes
	$(BIN)/python -m benchmarks.sweep $(ARGS)

bench-gpu: setup ## Measure one forward and one pair on an NVIDIA GPU
	$(BIN)/python -m benchmarks.forward_gpu $(ARGS)

bench-sweep-gpu: setup ## Measure whole sweeps at Finch 1B6's size on one or several NVIDIA GPUs (10 minutes)
	$(BIN)/python -m benchmarks.gpu_sweep $(ARGS)

test-gpu: setup ## Run all that needs an NVIDIA GPU: kernels, and the real command at full size (10 minutes; two cards where there are two)
	$(BIN)/python -m pytest -q -m gpu tests/gpu tests/unit $(ARGS)

# A test goes to whichever process is free, and each process keeps one that has loaded everything for all of its commands.
FAULTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-faults: setup ## Kill, crowd, damage and fuzz sweeps (11 minutes; ARGS="-k kills" narrows it)
	$(FAULTS) -m "not whole" tests/faults $(ARGS)

test-faults-all: setup ## The same with every combination of every fault (no limit on its time)
	$(FAULTS) -m "whole or not whole" tests/faults $(ARGS)

# Environments of their own that look into .venv for everything else. Ray wants older packages than the rest; MLflow would
# import one of mteb's, which takes half a second of every command; nothing but mutants needs mutmut.
.venv-%: $(STAMP)
	@$(BIN)/python -m venv $@
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$($@/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_shared.pth"
	@$@/bin/python -m pip install -qq --disable-pip-version-check --progress-bar off $(OWN_$*) \
	  || { rm -rf $@; exit 1; }
	@touch $@

OWN_ray := --ignore-installed hydra-ray-launcher ray
OWN_optuna := -c $(LOCK) hydra-optuna-sweeper==1.3.0
OWN_mteb := -c $(LOCK) 'mteb>=2.20'
OWN_st5 := --no-deps 'sentence-transformers>=5,<6'
OWN_st6 := --no-deps 'sentence-transformers>=6,<7'
OWN_mutants := -c $(LOCK) mutmut==3.8.1

test-ray: setup .venv-ray ## Run a sweep on a simulated Ray cluster that loses a machine
	.venv-ray/bin/python -m pytest -q -s -m faults tests/faults/test_ray.py tests/faults/test_ray_encoding.py $(ARGS)

test-mteb: setup .venv-mteb ## Score a task of mteb with the encoder, as mteb does it
	.venv-mteb/bin/python -m pytest -q tests/unit/api/test_mteb.py tests/unit/api/test_mteb_layers.py tests/unit/data/test_sts_tasks.py $(ARGS)

test-optuna: setup .venv-optuna ## Run Optuna's sweeper with two objectives
	.venv-optuna/bin/python -m pytest -q tests/e2e/test_sweepers.py -k optuna $(ARGS)

test-sentence-transformers: setup .venv-st5 .venv-st6 ## Load an exported encoder in sentence-transformers 5 and 6
	.venv-st5/bin/python -m pytest -q tests/unit/export/test_sentence_transformers.py tests/e2e/test_readme_to_neighbours.py $(ARGS)
	.venv-st6/bin/python -m pytest -q tests/unit/export/test_sentence_transformers.py $(ARGS)

# A first run of nothing writes all mutants, of which a sample is then taken.
mutants: setup .venv-mutants ## Break what decides results in 3,000 ways, and count what no test sees (hours; SAMPLE=50 of each module; ARGS="rwkv_sweep.config.layer_spec*")
	@$(if $(SAMPLE),OMP_NUM_THREADS=1 .venv-mutants/bin/mutmut run nothing >/dev/null 2>&1 || true)
	OMP_NUM_THREADS=1 .venv-mutants/bin/mutmut run --max-children $(WORKERS) $(ARGS) \
	  $(if $(SAMPLE),$$(.venv-mutants/bin/python -m tests.mutants --sample $(SAMPLE)))
	@.venv-mutants/bin/python -m tests.mutants

lint: setup ## Check style, format and types
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy

format: setup ## Fix style and format
	$(BIN)/ruff check -q --fix-only .
	$(BIN)/ruff format .

ui: setup ## Show the runs in MLflow on 127.0.0.1 (PORT=5000)
	@test -f $(DATABASE) || { echo "no runs yet in $(DATABASE): make sweep makes some" >&2; exit 1; }
	@$(BIN)/python -c 'import sqlite3, sys; \
	  row = sqlite3.connect(sys.argv[1]).execute("select e.experiment_id, t.key is not null from experiments e \
	    left join experiment_tags t on t.experiment_id = e.experiment_id and t.key = ? \
	    where e.name = ?", ("mlflow.sharedViewState.results", sys.argv[2])).fetchone(); \
	  view = "/runs?viewStateShareKey=results&workflowType=machine_learning" if row and row[1] else ""; \
	  print(f"http://127.0.0.1:{sys.argv[3]}/#/" + (f"experiments/{row[0]}{view}" if row else ""), " (Ctrl-C ends it)")' \
	  $(DATABASE) $(EXPERIMENT) $(PORT)
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 \
	  --backend-store-uri sqlite:///$(DATABASE) --default-artifact-root mlruns/artifacts

server: setup ## Serve runs to a team from PostgreSQL on HOST=127.0.0.1, PORT=5000 (docs/distributed.md)
	@$(BIN)/rwkv-sweep server --host $(HOST) --port $(PORT)

docs: setup $(DOCS_STAMP) ## Build the documentation into site/; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html"

$(DOCS_STAMP): docs/requirements.txt $(STAMP)
	@$(PIP_INSTALL) -r docs/requirements.txt
	@touch $@

wheel: setup ## Build dist/rwkv_sweep-*.whl
	@$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	@ls dist/*.whl

# Pins that still fit stay; UPGRADE=--upgrade takes the newest of all. torch names its own CUDA packages, so none is pinned.
lock: setup ## Write requirements.lock anew from pyproject.toml
	@$(PIP_INSTALL) uv
	@cp $(LOCK) .venv/new.lock
	@$(BIN)/uv pip compile -q --no-python-downloads --universal --python-version 3.10 --extra dev --no-annotate --no-header $(UPGRADE) \
	  pyproject.toml -o .venv/new.lock
	@{ echo '# Runtime and dev pins for Python 3.10 to 3.13, written by: make lock'; \
	  grep -vE '^(nvidia|cuda)-|^triton=|^#' .venv/new.lock; } > $(LOCK)

# What the documentation's packages share with the rest has the same pins.
docs-lock: setup ## Write docs/requirements.txt anew; after make lock
	@$(PIP_INSTALL) uv
	@{ echo '# The documentation, for Python 3.10 to 3.13, in step with requirements.lock; written by: make docs-lock'; \
	  $(BIN)/uv pip compile -q --no-python-downloads --universal --python-version 3.10 --no-annotate --no-header \
	  -c $(LOCK) --group pyproject.toml:docs; } > .venv/docs.lock
	@cp .venv/docs.lock docs/requirements.txt

clean: ## Remove .venv, caches and builds; results stay
	rm -rf .venv .venv-* mutants dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
