# Development tasks. Every target works from a fresh clone with Python 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCH_VENV ?= .venv-bench
BENCH := $(BENCH_VENV)/bin
INSTALLED := $(VENV)/.installed
CONSTRAINED := -c constraints.txt

.PHONY: demo test check lint types package install optimum transformers4 frameworks clean
.PHONY: bench bench-quick bench-gpu bench-install

demo: $(INSTALLED)  ## install, export the embedded model, and answer a sentence with it
	@if [ ! -f out/demo/bertrt.json ]; then $(BIN)/bertrt export --model demo --output out/demo; fi
	echo "Plants create [MASK] through a process known as photosynthesis." | $(BIN)/bertrt run out/demo

test: $(INSTALLED)  ## the tests, a file at a time in each of two processes
	$(BIN)/pytest -n 2 --dist loadfile

check: lint types package  ## everything that CI runs besides the tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not follow the package-dir map of an editable install, so the types are checked
# on the package as it is installed. That also proves the wheel.
types: $(INSTALLED)
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/installed .
	cd build/installed && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p bertrt

package: $(INSTALLED)  ## the runtime alone, from the wheel, in an environment without torch
	bash .ci/runtime-only

optimum: $(INSTALLED)  ## Optimum opens the artifacts; in an environment of its own
	bash tests/peers/optimum.sh

transformers4: $(INSTALLED)  ## the tests with transformers 4.57; in an environment of its own
	bash tests/peers/transformers4.sh

frameworks: $(INSTALLED)  ## checkpoints as TensorFlow and Flax write them, in an environment with both
	bash tests/frameworks/frameworks.sh

bench-quick: $(BENCH_VENV)/.installed  ## bertrt beside everything else that one could use, in minutes
	$(BENCH)/python benchmarks/run.py --quick

bench: bench-install  ## the same on every model, task and workload, in hours
	$(BENCH)/python benchmarks/run.py

bench-gpu:  ## with an NVIDIA GPU, in an environment (PYTHON) with bertrt, its exporter and PyTorch for CUDA
	$(PYTHON) benchmarks/run.py --device cuda
	$(PYTHON) benchmarks/gpu_kernels.py

bench-install: $(BENCH_VENV)/.installed  ## the environments of the benchmarks
	bash tests/peers/optimum_environment.sh

$(BENCH_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH)/pip install --quiet --upgrade pip
	$(BENCH)/pip install --quiet $(CONSTRAINED) torch
	$(BENCH)/pip install --quiet $(CONSTRAINED) setuptools --editable '.[cpu,export]' --group bench
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
	rm -rf build out $(VENV) $(BENCH_VENV) .venv-optimum .venv-frameworks *.egg-info
