# Development tasks. Every target works from a fresh clone with Python 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DOCS_VENV ?= .venv-docs
DOCS := $(DOCS_VENV)/bin
BENCH_VENV ?= .venv-bench
BENCH := $(BENCH_VENV)/bin
PACKAGE_VENV ?= .venv-package
COVERAGE_VENV ?= .venv-coverage
PYTHONS ?= python3.12 python3.13
INSTALLED := $(VENV)/.installed
CONSTRAINED := -c constraints.txt

.PHONY: demo test check lint types docs wheel coverage install clean
.PHONY: optimum transformers4 newest pythons frameworks clients layouts integrations triton scale
.PHONY: bench bench-quick bench-gpu gpu-visit bench-report bench-install

demo: $(INSTALLED)  ## install, export the embedded model, and answer a sentence with it
	@if [ ! -f out/demo/bertrt.json ]; then $(BIN)/bertrt export --model demo --output out/demo; fi
	echo "Plants create [MASK] through a process known as photosynthesis." | $(BIN)/bertrt run out/demo

test: $(INSTALLED)  ## the tests, a file at a time in each of two processes
	$(BIN)/pytest -n 2 --dist loadfile

check: lint types wheel  ## everything that CI runs besides the tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

wheel: $(INSTALLED) $(PACKAGE_VENV)/.installed  ## wheel and sdist in dist/, and the runtime alone from the wheel
	VENV=$(VENV) PACKAGE_VENV=$(PACKAGE_VENV) bash .ci/wheel

coverage: $(COVERAGE_VENV)/.installed  ## which lines of the packages no test reaches; prints a report
	COVERAGE_VENV=$(COVERAGE_VENV) bash .ci/coverage

docs: $(DOCS_VENV)/.installed  ## the documentation as a site in build/site; a broken link fails
	$(DOCS)/pytest -q tests/docs/test_public_names.py
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict

optimum: $(INSTALLED)  ## Optimum opens the artifacts; in an environment of its own
	bash tests/peers/optimum.sh

transformers4: $(INSTALLED)  ## the tests with transformers 4.57; in an environment of its own
	bash tests/peers/transformers4.sh

newest: ## the tests with the newest release of every dependency but PyTorch; in its own environment
	PYTHON=$(PYTHON) bash tests/peers/newest.sh

pythons: $(INSTALLED)  ## the runtime's tests on other versions of Python, without PyTorch
	VENV=$(VENV) bash .ci/pythons $(PYTHONS)

frameworks: $(INSTALLED)  ## checkpoints as TensorFlow and Flax write them, in an environment with both
	bash tests/frameworks/frameworks.sh

clients: $(INSTALLED)  ## clients of other servers talk to this one, from environments of their own
	bash tests/clients/clients.sh

layouts: $(INSTALLED)  ## FastEmbed, Optimum, transformers.js and ONNX Runtime 1.22 open the hub's layout
	bash tests/layouts/layouts.sh

integrations: $(INSTALLED)  ## the recipes of the guide, with the packages that they are for
	bash tests/integrations/integrations.sh

triton: $(INSTALLED)  ## a real tritonserver runs what `bertrt export-triton` writes, in an environment of its own
	bash tests/tritonserver/tritonserver.sh

scale: $(INSTALLED)  ## bertrt on Ray, in an environment of its own; CLIENTS=1 adds the clients of `make clients`
	bash tests/scale/scale.sh

bench-quick: $(BENCH_VENV)/.installed  ## bertrt compared with other libraries, in minutes
	$(BENCH)/python -m benchmarks.run --quick

bench: bench-install  ## the same on every model, task and workload, in hours
	$(BENCH)/python -m benchmarks.run

bench-gpu:  ## with an NVIDIA GPU, in an environment (PYTHON) with bertrt, its exporter and PyTorch for CUDA
	$(PYTHON) -m benchmarks.run --device cuda
	$(PYTHON) -m benchmarks.gpu.compare_kernels

gpu-visit:  ## with an NVIDIA GPU at hand for minutes: what decides most first, into out/gpu-visit
	$(PYTHON) -P benchmarks/gpu_visit.py --out out/gpu-visit

bench-report: $(BENCH_VENV)/.installed  ## the pages, plots and README table from docs/benchmarks/results.jsonl
	$(BENCH)/python -m benchmarks.report --docs

bench-install: $(BENCH_VENV)/.installed  ## the environments of the benchmarks
	bash tests/peers/optimum_environment.sh
	bash tests/peers/infinity_environment.sh
	bash tests/peers/ray_environment.sh
	bash tests/peers/spark_environment.sh

$(BENCH_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH)/pip install --quiet --upgrade pip
	$(BENCH)/pip install --quiet $(CONSTRAINED) torch
	$(BENCH)/pip install --quiet $(CONSTRAINED) setuptools --editable '.[cpu,export]' --group bench
	touch $@

$(DOCS_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS)/pip install --quiet --upgrade pip
	$(DOCS)/pip install --quiet $(CONSTRAINED) --group docs
	touch $@

$(PACKAGE_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PACKAGE_VENV)
	$(PACKAGE_VENV)/bin/pip install --quiet --upgrade pip
	$(PACKAGE_VENV)/bin/pip install --quiet $(CONSTRAINED) --group package
	touch $@

$(COVERAGE_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(COVERAGE_VENV)
	$(COVERAGE_VENV)/bin/pip install --quiet --upgrade pip
	$(COVERAGE_VENV)/bin/pip install --quiet $(CONSTRAINED) torch
	$(COVERAGE_VENV)/bin/pip install --quiet $(CONSTRAINED) setuptools --editable '.[cpu,export]' --group coverage
	touch $@

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
# torch first and alone: resolved together with the rest, a range would be read before the pin.
	$(BIN)/pip install --quiet $(CONSTRAINED) torch
	$(BIN)/pip install --quiet $(CONSTRAINED) setuptools --editable '.[cpu,export]' --group dev
	touch $@

clean:
	rm -rf build dist out .venv* *.egg-info
