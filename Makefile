PYTHON ?= python3
BIN := .venv/bin
UV := uv==0.13.9
CHAOS := kills workers mlflow_away disk_full versions clocks sleeper

.PHONY: train test check bench bench-sweep fuzz chaos lock clean

train: .venv/installed        ## install, then the main job
	$(BIN)/python train.py

test: .venv/installed         ## install, then the tests
	$(BIN)/pytest

check: .venv/installed        ## linter, format, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed        ## of a training; writes docs/benchmarks.md
	$(BIN)/python benchmarks/page.py

bench-sweep: .venv/installed  ## a study's overhead, its workers, and how soon it is as good as the stock sweeper
	$(BIN)/python benchmarks/sweep_overhead.py
	$(BIN)/python benchmarks/sweep_workers.py
	$(BIN)/python benchmarks/sweep_quality.py

fuzz: .venv/installed         ## 30,000 broken files and random configurations: an hour
	PNEUMO_FUZZ=30000 $(BIN)/pytest tests/data/test_fuzz.py tests/runs/test_config_fuzz.py

chaos: .venv/installed        ## faults at random moments, a table line for each campaign: hours
	@for one in $(CHAOS); do $(BIN)/python benchmarks/chaos/$$one.py || failed=1; done; exit $${failed:-0}

.venv/installed: pyproject.toml requirements.lock
	@echo "installing into .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check $(UV)
	@$(BIN)/uv pip install --quiet --python .venv --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation --compile-bytecode -e .
	@touch $@

lock:                         ## exact versions and hashes of everything, for every platform
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --upgrade pyproject.toml -o requirements.lock

clean:                        ## what was installed and decoded; runs stay
	rm -rf .venv stores
