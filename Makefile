# make demo   explain molecules, networks and planted motifs; writes out/demo/index.html
# make test   run the tests; make test-all runs every combination of their parameters, too (half an hour)
# make lint   ruff and pyright          make docs   build docs/ with warnings as errors
# make bench  measure quality, speed beside the peers, memory and scale (half an hour); writes out/bench
# make reproduce  the published benchmark, every algorithm on trained checkpoints (half an hour); writes out/reproduce
# make bench-molecules  every algorithm on molecules whose atoms' shares are known; counterfactuals (minutes); writes out/bench
# make train  train the reference models again
# make clean  remove what make built

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
WORKERS ?= auto
BIN := $(VENV)/bin

# Where bytecode must not be written beside sources, it goes into the virtual environment: without any, every process
# compiles PyTorch and PyG again, which takes seconds.
ifdef PYTHONDONTWRITEBYTECODE
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(abspath $(VENV)/bytecode)
endif

# Tests in which shapes in signatures are checked, which makes them three quarters slower.
SHAPES := tests/test_arrays.py tests/test_sparse.py tests/test_masked_features.py tests/test_learn.py tests/test_oracles.py

.PHONY: demo test test-all lint docs bench bench-molecules reproduce train clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed-molecules
	$(BIN)/gnn-xai demo --out $(OUT)

# One thread a worker: the graphs are small, and the workers share the cores.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest --check-shapes $(SHAPES)

test-all: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "" --hypothesis-profile full

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# One more peer, which pins nothing that we need; where it cannot be had, its rows say so.
bench: $(VENV)/installed-dev
	-$(BIN)/python -m pip install --disable-pip-version-check --no-deps graph-explain==0.8.0
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.speed --out out/bench
	$(BIN)/python -m benchmarks.scale
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.imports

bench-molecules: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.molecules --drugs --conjunction --benzene --out out/bench/molecules.json
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.counterfactuals --exmol 20

train: $(VENV)/installed-molecules
	$(BIN)/python -m gnn_xai.datasets.train

reproduce: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.reproduce --out out/reproduce

clean:
	rm -rf $(VENV) out docs/_build build dist .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "gnn_xai needs Python 3.10 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; say which with: make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)

# A stamp for each extra: installed once, and again only when the project's requirements change. Builds follow the
# constraints, too: visdom's needs a setuptools that still has pkg_resources.
$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
