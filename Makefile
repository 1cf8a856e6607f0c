# Two commands: `make demo` and `make test`. Both make .venv first, from requirements.txt (with uv if it is there).
PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n auto --dist loadscope  # a worker a core, a module's fixtures made once

.PHONY: demo test quick lint format bench clean

demo: .venv/ready
	$(BIN)/python train.py --preset demo

test: .venv/ready
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"
	$(BIN)/python -m pytest -n auto -m slow

quick: .venv/ready
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready
	$(BIN)/python tools/bench.py limits

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "making .venv from requirements.txt: about 6 GB with torch, half a minute with uv, some minutes with pip"
	@rm -rf .venv
	@if command -v uv >/dev/null; then \
	    uv venv --quiet --python $(PYTHON) .venv \
	    && uv pip install --quiet --python $(BIN)/python -r requirements.txt -e .; \
	else \
	    $(PYTHON) -m venv .venv && $(BIN)/pip install --quiet -r requirements.txt -e .; \
	fi
	@touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .hypothesis
