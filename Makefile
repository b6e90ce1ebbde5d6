# Every target sets up .venv by itself; the machine needs Python 3.11+, make and a C compiler.
#   make demo          train, serve and query the flight-delay models
#   make test          ruff, mypy and the tests
#   make bench         every benchmark, 40 minutes on a quiet machine; QUICK=1 for a fast look
#   make bench-gpu     how much of an NVIDIA GPU's bare speed is served
#   make bench-kernels  the statistics next to SciPy, DataSketches, Evidently, river
#   TORCH_INDEX=URL    where torch comes from (e.g. PyTorch's own CPU wheels), else pip's default
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH  := torch==2.13.0
FUZZ_SECONDS ?= 60

.PHONY: help demo test test-slow lint bench bench-gpu bench-kernels fuzz proto clean
help:
	@grep -E '^#   ' $(MAKEFILE_LIST) | cut -c5-

# torch goes first and pinned: a later, open requirement would take gigabytes of CUDA packages.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; v = sys.version_info; assert v >= (3, 11), f"Kedge needs Python 3.11 or newer, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11"'
	@echo "creating $(VENV) and installing $(TORCH), some minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(VENV)/.examples: $(VENV)/.torch pyproject.toml
	@echo "installing Kedge and what the examples need"
	@$(PIP) install -e '.[examples]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "installing Kedge and what the tests need"
	@$(PIP) install -e '.[examples,dev]'
	@touch $@

demo: $(VENV)/.examples
	@$(BIN)/python examples/flights/demo.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

fuzz: $(VENV)/.dev
	$(BIN)/python tests/kernels/fuzz_codec.py --seconds $(FUZZ_SECONDS)

# Needs Debian's nghttp2-client (h2load) and libb64-0d (perf_analyzer); each peer gets its own venv.
bench: $(VENV)/.dev
	@$(PIP) install -e '.[bench]'
	$(BIN)/python benchmarks/all.py $(if $(QUICK),--quick,--write-readme)

# Needs an NVIDIA GPU and a torch built for CUDA; exits with 3 without.
bench-gpu: $(VENV)/.torch
	@$(PIP) install -e .
	$(BIN)/python benchmarks/gpu.py

bench-kernels: $(VENV)/.dev
	@$(PIP) install -e '.[bench]'
	$(BIN)/python benchmarks/kernels.py --write-readme

proto: $(VENV)/.dev
	$(BIN)/python proto/compile.py

clean:
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis
