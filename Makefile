# One command sets up and runs, one sets up and tests. Both need Python 3.11 or newer and the package index, no GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEVICE ?= cpu
GPU_TESTS := tests/test_gpu.py tests/probes tests/quantize/test_table.py tests/weights/test_pipeline.py tests/merge/test_methods.py tests/runtimes/test_tensor_rt.py
# Processes that share the tests: one per core, at most four; 0 runs them in pytest's own.
WORKERS ?= logical

.PHONY: benchmark test check docs browser-test zoo gpu-rehearsal gpu-first-hour gpu-benchmark chaos clean

benchmark: $(VENV)/.installed  ## the main job: all suites, and one HTML page each
	$(BIN)/pytest suites/ --benchmark --device $(DEVICE)

test: $(VENV)/.installed  ## all tests but those of `gpu-rehearsal` with models of full size; no network, no GPU
	$(BIN)/pytest tests/ suites/ -m "not full_size" -n $(WORKERS) --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## write docs/api.md and docs/models.md, the pages of names and of models, from the docstrings and tables of the code
	$(BIN)/python -m tests.api_page
	$(BIN)/python -m tests.models_page

gpu-rehearsal: $(VENV)/.installed  ## what runs on CUDA, on a simulated device: no GPU needed (part of `make test`, but for models of full size)
	$(BIN)/pytest tests/rehearsal
	$(BIN)/pytest -p tests.rehearsal.as_gpu -m gpu $(GPU_TESTS) -rs

gpu-first-hour: $(VENV)/.installed  ## what only a GPU can answer, most valuable first: JSON lines, and a section for docs/log.md
	$(BIN)/python tests/benchmarks/first_hour.py --device $(if $(filter cpu,$(DEVICE)),cuda,$(DEVICE))

# A failed gate or test ends none of the others; the last line says whether any failed.
gpu-benchmark: $(VENV)/.installed  ## the GPU tests, an SD1.5-size pipeline and the suites on a CUDA device
	failed=; \
	$(BIN)/pytest tests/ -m gpu || failed="$$failed tests"; \
	$(BIN)/python tests/benchmarks/sd15.py --device cuda || failed="$$failed sd15"; \
	$(BIN)/pytest suites/ --benchmark --device cuda --runs-dir runs-cuda || failed="$$failed suites"; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

chaos: $(VENV)/.installed  ## kill a sweep fifty times, and one with two workers, and compare what is left with an unbroken one (half an hour)
	$(BIN)/python tests/chaos/kill.py --kills 50
	$(BIN)/python tests/chaos/kill.py --kills 50 --workers local:2

zoo: $(VENV)/.installed  ## draw the pictures and train the embedded models again (about an hour on two cores)
	$(BIN)/python -m harness.zoo.training

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

clean:  ## forget the environment and the caches; runs/ stays
	rm -rf $(VENV) .sweetspot .pytest_cache .mypy_cache .ruff_cache
